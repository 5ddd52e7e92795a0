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

// PickUpCredentials hands the key and secret out, once. A wrong claim token is
// answered as an unknown job is.
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
	// The key is bound by its digest: whoever reads Redis cannot replay it.
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
