# One small image with the three programs: api, worker and nexus (the command
# line). compose.yaml says which of them a service runs.
FROM golang:1.26.8 AS build
WORKDIR /src
# Modules first: they change less often than the code, so they stay cached.
COPY go.mod go.sum ./
RUN go mod download
COPY . .
# There is no .git in the build, so the compiler does not know the commit. Pass it with:
#   COMMIT=$(git rev-parse HEAD) docker compose build
ARG COMMIT=
# .ci/compose runs this command.
RUN CGO_ENABLED=0 go build -trimpath -ldflags="-s -w -X github.com/nexus-erp/provisioner/internal/app.commit=$COMMIT" -o /out/ ./cmd/...

# busybox is a static program of 1 MB. It has `wget` for the health check, and `sh` to
# pass a secret to a program's standard input.
FROM busybox:1.37.0-musl AS busybox

FROM scratch
# For TLS connections, such as the verification of a tenant's public address.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=busybox /bin/busybox /bin/busybox
COPY --from=build /out/ /usr/local/bin/
# A user without rights, by number, since scratch has no /etc/passwd. The worker also
# needs the group of the Docker socket; compose.yaml sets it with `group_add`, since the
# number is different on each host.
USER 65532:65532
CMD ["/usr/local/bin/api"]
