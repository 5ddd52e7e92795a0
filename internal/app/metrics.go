package app

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// workerMetrics serves the metrics of a worker, which has no API.
func (a *app) workerMetrics() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(a.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	return mux
}
