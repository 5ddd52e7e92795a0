package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/tasks"
)

// PickUpCredentials returns the key and secret, once. A wrong claim token gets the same
// answer as an unknown job.
func (s *Server) PickUpCredentials(c echo.Context, id gen.JobID, params gen.PickUpCredentialsParams) error {
	job, err := s.known(c.Request().Context(), nexus.JobID(id))
	if err != nil {
		return err
	}
	if !s.Keys.ClaimEqual(job.KeyID, job.ID, bearer(c)) {
		return &nexus.Error{Code: nexus.NotFound, Op: "api.credentials", Msg: "There is no such job."}
	}
	pair, err := s.credentials(c.Request().Context(), job, params.IdempotencyKey)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, pair)
}

func (s *Server) credentials(ctx context.Context, job nexus.Job, key string) (gen.Credentials, error) {
	// Only the digest of the key is stored, so that a reader of Redis cannot repeat the call.
	bind := sha256.Sum256([]byte(key))
	sealed, err := s.Store.Credentials(ctx, job.ID, hex.EncodeToString(bind[:]))
	if err != nil {
		return gen.Credentials{}, err
	}
	plain, err := s.Keys.Open(job.ID, nexus.PurposeCredentials, sealed)
	if err != nil {
		return gen.Credentials{}, err
	}
	var pair tasks.Credentials
	if err := json.Unmarshal(plain, &pair); err != nil {
		return gen.Credentials{}, err
	}
	return gen.Credentials{Site: s.shownSite(job.Site), Url: s.url(job.Site), ApiKey: pair.APIKey, ApiSecret: pair.APISecret}, nil
}
