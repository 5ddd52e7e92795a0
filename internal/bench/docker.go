package bench

import (
	"errors"
	"log/slog"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

type DockerOptions struct {
	Service     string
	Install     nexus.InstallID
	DBAccount   string
	DBPassword  nexus.Secret
	VerifyAddr  string
	OutputLimit int64
	Log         *slog.Logger
}
type Docker struct{ nexus.Bench }

func NewDocker(o DockerOptions) (*Docker, error) { return nil, errors.New("not yet") }
func (d *Docker) Close() error                   { return nil }
