package store_test

import (
	"fmt"

	"pgregory.net/rapid"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// build submits a template job.
func (m *machine) build(t *rapid.T) {
	sub := build(rapid.SampledFrom([][]string{erp, nil}).Draw(t, "apps"))
	sub.ID = nexus.JobID(fmt.Sprintf("000%029x", len(m.subs)))
	sub.Site = nexus.TemplateName(nexus.TemplatePlain, sub.ID)
	m.record(t, sub)
}

// templates writes the list of the bench's templates anew, or withdraws one of them.
func (m *machine) templates(t *rapid.T) {
	name := rapid.SampledFrom([]nexus.SiteName{"plain-1", "plain-2"}).Draw(t, "template")
	if rapid.Bool().Draw(t, "withdraw") {
		m.want(t, "withdraw", answer(m.f.WithdrawTemplate(t.Context(), "main", name)), "")
		for key, offered := range m.ref.offers {
			if offered == name {
				delete(m.ref.offers, key)
			}
		}
		return
	}
	list := rapid.SampledFrom([][]nexus.Template{{madeTemplate(name, erp, 1, "")}, {madeTemplate(name, nil, 2, "Old."), madeTemplate("plain-3", erp, 0, "")},
		{madeTemplate("plain-3", nil, 2, ""), madeTemplate(name, nil, 3, "")}, {}}).Draw(t, "list")
	m.want(t, "offer", answer(m.f.OfferTemplates(t.Context(), "main", list)), "")
	m.ref.list, m.ref.offers = text(list), map[string]nexus.SiteName{}
	for _, each := range list { // the later ones are newer
		if each.Problem == "" {
			m.ref.offers[each.Spec.Key(each.Apps)] = each.Name
		}
	}
}

// choose chooses the road of a job, once.
func (r *ref) choose(j *refJob, keys []string) {
	if j.road != "" {
		return
	}
	if j.Spec.Road == nexus.RoadNewSite && len(keys) > 0 {
		j.road, j.template = string(nexus.RoadNewSite), ""
		return
	}
	for _, key := range keys {
		if j.Spec.Road != nexus.RoadClone && r.popFor(j, key) {
			return
		}
		if r.offered(j, []string{key}); j.road == string(nexus.RoadClone) {
			return
		}
	}
}

// offered is the road of a job without a standby.
func (r *ref) offered(j *refJob, keys []string) {
	for _, key := range keys {
		if name, ok := r.offers[key]; ok && j.bench != "" {
			j.road, j.template = string(nexus.RoadClone), string(name)
			return
		}
	}
	j.road, j.template = string(nexus.RoadNewSite), ""
}

// divert records another road.
func (m *machine) divert(t *rapid.T) {
	l, _, j := m.lease(t)
	keys := rapid.SampledFrom([][]string{nil, {erpKey}, {erpKey, bareKey}}).Draw(t, "templates")
	way, err := l.Divert(t.Context(), "nx1", keys...)
	m.does(t, "divert", err, j, func() string {
		m.ref.detour(j)
		m.ref.offered(j, keys)
		j.db = "nx1"
		m.want(t, "divert", way, j.way())
		if tenant := m.ref.tenants[j.Site]; tenant != nil && tenant.job == j.ID {
			tenant.road, tenant.template, tenant.bench, tenant.db = j.road, j.template, j.bench, j.db
		}
		return ""
	})
}
