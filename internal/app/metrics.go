package app

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// workerMetrics is what a worker shows of itself: it has no API of its own.
func (a *app) workerMetrics() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(a.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	return mux
}
