package api

// Rule is a rule of a route, for the tests that compare it with the contract.
type Rule struct {
	Scope Scope
	Query []string
}

// Routes are the rules of guard.
func Routes() map[string]Rule {
	out := map[string]Rule{}
	for name, r := range routes() {
		out[name] = Rule{r.scope, r.query}
	}
	return out
}
