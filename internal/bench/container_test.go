//go:build service || bench

package bench_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os/exec"
	"strings"
	"testing"

	"github.com/nexus-erp/provisioner/internal/bench"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// box is a bench's container, seen from outside, past our own runner.
type box struct {
	name, rootPassword string
	dbHost, dbPort     string
}

func (b *box) sh(t *testing.T, script string) string {
	t.Helper()
	out, err := exec.Command("docker", "exec", "-e", "MYSQL_PWD="+b.rootPassword, b.name, "sh", "-c", script).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return strings.TrimSpace(string(out))
}

func newBox(t *testing.T, name, rootPassword string) *box {
	t.Helper()
	b := &box{name: name, rootPassword: rootPassword}
	var config struct {
		Host string      `json:"db_host"`
		Port json.Number `json:"db_port"`
	}
	if err := json.Unmarshal([]byte(b.sh(t, "cat sites/common_site_config.json")), &config); err != nil {
		t.Fatal(err)
	}
	b.dbHost, b.dbPort = config.Host, config.Port.String()
	if b.dbPort == "" {
		b.dbPort = "3306"
	}
	return b
}

// left looks for anything of a site where it may hide.
func (b *box) left(t *testing.T, site nexus.SiteName, db string) (left []string) {
	t.Helper()
	files := b.sh(t, fmt.Sprintf("ls -d sites/%s sites/.nexus/intent/%s sites/.nexus/trash/%s* archived/sites/%s* 2>/dev/null || true", site, site, db, site))
	sql := fmt.Sprintf("SELECT schema_name FROM information_schema.schemata WHERE schema_name='%[1]s' UNION ALL "+
		"SELECT CONCAT('user@', Host) FROM mysql.global_priv WHERE User='%[1]s' UNION ALL SELECT CONCAT('registered ', name) FROM nexus.register WHERE name='%[1]s' "+
		"UNION ALL SELECT CONCAT('thread ', id) FROM information_schema.processlist WHERE user='%[1]s' OR db='%[1]s'", db)
	rows := b.sh(t, fmt.Sprintf(`mariadb -h %s -P %s -u root -N -e "%s"`, b.dbHost, b.dbPort, sql))
	redis := b.sh(t, fmt.Sprintf(`for u in $(grep -o 'redis://[^"]*' sites/common_site_config.json | sort -u); do redis-cli -u "$u" --scan --pattern '%s|*'; redis-cli -u "$u" --scan --pattern 'rq:job:%s::*'; done`, db, site))
	processes := b.sh(t, fmt.Sprintf("ps -eo args | grep -F -e %s -e %s | grep -v -e grep -e 'sh -c' || true", site, db))
	for _, text := range []string{files, rows, redis, processes} {
		left = append(left, strings.Fields(text)...)
	}
	return left
}

// plant makes a site that Nexus did not make.
func (b *box) plant(t *testing.T, site nexus.SiteName) func() string {
	t.Helper()
	b.sh(t, fmt.Sprintf(`mkdir -p sites/%[1]s/private/files && echo '{"db_name":"_theirs","db_password":"x"}' > sites/%[1]s/site_config.json && echo data > sites/%[1]s/private/files/a`, site))
	t.Cleanup(func() { b.sh(t, fmt.Sprintf("rm -r sites/%s", site)) })
	return func() string {
		return b.sh(t, fmt.Sprintf("find sites/%s -type f -exec sha256sum {} + -o -type d -print | sort", site))
	}
}

// container is a target in a container; its runner ends with the test.
func container(t *testing.T, b *box, addr, app string, install nexus.InstallID) *target {
	t.Helper()
	const account, secret = "nexus_test", "WorkerPassw0rdOfTheTests"
	docker, err := bench.NewDocker(bench.DockerOptions{Service: b.name, Install: install, DBAccount: account, DBPassword: secret,
		VerifyAddr: addr, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = docker.Close() })
	return &target{bench: docker, install: install, addr: addr, app: app, plant: b.plant, left: b.left,
		secrets: nexus.Init{Account: account, RootUser: "root", RootPassword: nexus.Secret(b.rootPassword), Password: secret}}
}
