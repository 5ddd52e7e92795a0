package gen

// Tenant is the same request as an operator makes it; a subdomain that is left out is empty.
func (r SignupRequest) Tenant() TenantRequest {
	out := TenantRequest{Email: r.Email, Password: r.Password, FullName: r.FullName, OrganizationName: r.OrganizationName, Plan: r.Plan,
		Country: r.Country, Language: r.Language, Timezone: r.Timezone, Currency: r.Currency, Abbreviation: r.Abbreviation}
	if r.Subdomain != nil {
		out.Subdomain = *r.Subdomain
	}
	return out
}
