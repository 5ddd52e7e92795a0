# One small image with the three programs: api, worker and nexus (the command
# line). compose.yaml says which of them a service runs.
FROM golang:1.26.8 AS build
WORKDIR /src
# The modules first: they change less often than the code, and stay cached.
COPY go.mod go.sum ./
RUN go mod download
COPY . .
# The repository itself is not here, so the compiler cannot see the commit:
#   COMMIT=$(git rev-parse HEAD) docker compose build
ARG COMMIT=
# .ci/compose runs this very line on every change.
RUN CGO_ENABLED=0 go build -trimpath -ldflags="-s -w -X github.com/nexus-erp/provisioner/internal/app.commit=$COMMIT" -o /out/ ./cmd/...

# One static program of a megabyte gives what an empty image lacks: `wget` for
# the health check, and `sh` to put a secret on a program's standard input.
FROM busybox:1.37.0-musl AS busybox

FROM scratch
# The verification of a tenant's public address, and mail and payments later,
# speak TLS.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=busybox /bin/busybox /bin/busybox
COPY --from=build /out/ /usr/local/bin/
# Nobody in particular; scratch has no /etc/passwd, so by number. The worker also
# needs the group of the Docker socket: that is `group_add` in compose.yaml, as
# the number differs from host to host.
USER 65532:65532
CMD ["/usr/local/bin/api"]
