package bench

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/docker/docker/client"
)

// daemonOptions say where the Docker daemon is, in the docker command's order:
// DOCKER_HOST; the context DOCKER_CONTEXT; the current context of the config file;
// the local socket. An address that this client cannot use is an error: falling back to
// another daemon could reach another bench of the same name.
func daemonOptions(getenv func(string) string) ([]client.Opt, error) {
	if host := getenv("DOCKER_HOST"); host != "" {
		if err := reachable("DOCKER_HOST", host); err != nil {
			return nil, err
		}
		return []client.Opt{client.FromEnv}, nil
	}
	folder := getenv("DOCKER_CONFIG")
	if home := getenv("HOME"); folder == "" && home != "" {
		folder = filepath.Join(home, ".docker")
	}
	name, from := getenv("DOCKER_CONTEXT"), "DOCKER_CONTEXT"
	if name == "" {
		var err error
		if name, err = currentContext(folder); err != nil {
			return nil, err
		}
		from = "the current context of " + folder
	}
	if name == "" || name == "default" {
		return []client.Opt{client.FromEnv}, nil
	}
	return contextOptions(folder, name, fmt.Sprintf("%s (%s)", name, from))
}

// currentContext returns the context that `docker context use` chose, if any.
func currentContext(folder string) (string, error) {
	if folder == "" {
		return "", nil
	}
	text, err := os.ReadFile(filepath.Join(folder, "config.json"))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return "", nil
	}
	var config struct {
		CurrentContext string `json:"currentContext"`
	}
	if err == nil {
		err = json.Unmarshal(text, &config)
	}
	if err != nil {
		return "", fmt.Errorf("docker's config file cannot be read: %w", err)
	}
	return config.CurrentContext, nil
}

// contextOptions reads a context that `docker context create` stored, in a folder named
// by the digest of its name; errors name it as shown.
func contextOptions(folder, name, shown string) ([]client.Opt, error) {
	sum := sha256.Sum256([]byte(name))
	id := hex.EncodeToString(sum[:])
	text, err := os.ReadFile(filepath.Join(folder, "contexts", "meta", id, "meta.json"))
	if err != nil {
		return nil, fmt.Errorf("there is no Docker context %s: docker context ls lists those there are (%w)", shown, err)
	}
	var meta struct {
		Endpoints map[string]struct{ Host string }
	}
	if err := json.Unmarshal(text, &meta); err != nil {
		return nil, fmt.Errorf("the Docker context %s cannot be read: %w", shown, err)
	}
	host := meta.Endpoints["docker"].Host
	if err := reachable("the Docker context "+shown, host); err != nil {
		return nil, err
	}
	options := []client.Opt{client.WithHost(host), client.WithVersionFromEnv()}
	certs := filepath.Join(folder, "contexts", "tls", id, "docker")
	if _, err := os.Stat(certs); err != nil {
		return options, nil //nolint:nilerr // a context without certificates
	}
	return append(options, client.WithTLSClientConfig(filepath.Join(certs, "ca.pem"), filepath.Join(certs, "cert.pem"), filepath.Join(certs, "key.pem"))), nil
}

// reachable refuses addresses that only the docker command can use.
func reachable(what, host string) error {
	scheme, _, _ := strings.Cut(host, "://")
	switch scheme {
	case "unix", "tcp", "http", "https", "npipe":
		return nil
	case "ssh":
		return fmt.Errorf("%s is an address by SSH, which is not supported: run the worker on that host, or forward its socket "+
			"(ssh -NL /tmp/bench.sock:/var/run/docker.sock HOST) and set DOCKER_HOST=unix:///tmp/bench.sock", what)
	}
	return fmt.Errorf("%s is no address such as unix:///var/run/docker.sock or tcp://HOST:2376", what)
}
