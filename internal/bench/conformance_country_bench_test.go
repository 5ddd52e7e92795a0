//go:build bench

package bench_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/internal/bench/standin"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// TestCountriesBench makes the templates of countries on a real bench, which
// NEXUS_TEST_TEMPLATES lists (usually US and DE:SKR04), and copies them. It works with the
// copies as their users do.
func TestCountriesBench(t *testing.T) {
	b, g := realBench(t)
	t.Run("hello", func(t *testing.T) { testHello(t, g) })
	specs := os.Getenv("NEXUS_TEST_TEMPLATES")
	if specs == "" {
		specs = "US,DE:SKR04"
	}
	for _, text := range strings.Split(specs, ",") {
		t.Run(text, func(t *testing.T) { testCountry(t, b, g, text) })
	}
}

// country is a template with a company.
type country struct {
	*model
	spec nexus.TemplateSpec
}

func testCountry(t *testing.T, b *standin.Box, g *target, text string) {
	spec, err := nexus.ParseTemplateSpec(text)
	if err != nil {
		t.Fatal(err)
	}
	c := &country{g.model(t, b, "country"), spec}
	c.site = nexus.TemplateName(spec, c.owner)
	c.raw(t)
	args := nexus.SetUp{Country: spec.Country(), Chart: spec.Chart()}
	began := time.Now()
	made := c.must(t, args)
	if !made.Changed || !strings.Contains(made.Note, "chart of accounts is ") {
		t.Fatalf("set up: %+v", made)
	}
	t.Logf("set up in %s: %s", time.Since(began), made.Note)
	if result := c.must(t, args); result.Changed || result.Skipped {
		t.Errorf("set up again: %+v", result)
	}
	if jobs := b.Jobs(t, c.site); len(jobs) > 0 {
		t.Errorf("jobs are queued: %v", jobs)
	}
	began = time.Now()
	c.must(t, nexus.Freeze{Spec: spec, Apps: c.apps})
	t.Logf("frozen in %s", time.Since(began))
	if problem := c.problem(t); problem != "" {
		t.Error(problem)
	}
	t.Log(b.Sh(t, "cat sites/.nexus/templates/"+string(c.site)+"/template.json"))
	for i, name := range []struct{ name, abbr, want string }{
		{"Pump & Söhne \"West\"", "", "PSW"}, {`O'Neil 100% _under\score`, "ONE", "ONE"}, {strings.Repeat("long name ", 13) + "1234567890", "", "LNLNL"},
		{"北京华泰贸易有限公司", "", "北京华泰贸"}, {"شركة النور للتجارة", "ABCDEFGHIJ", "ABCDEFGHIJ"}, {"", "", "CC"},
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) { testNamed(t, c, i, name.name, name.abbr, name.want) })
	}
	c.must(t, nexus.DropSite{})
}

// testNamed copies the template and names the copy's company. The first copy waits on the
// shelf before.
func testNamed(t *testing.T, c *country, i int, name, abbr, want string) {
	n := c.target.tenant(fmt.Sprintf("c%d", i))
	if i == 0 {
		k := (&shelf{c.model}).keep(t)
		n = k.taker("c0")
		n.run(t, k.claim(n))
	} else {
		n.run(t, nexus.Clone{Template: c.site})
	}
	_, room := c.words(t)
	want = string([]rune(want)[:min(len([]rune(want)), len(room))]) // the chart's names may be long
	load := ""
	if text, err := os.ReadFile("/proc/loadavg"); err == nil {
		load = string(text[:4])
	}
	began := time.Now()
	result := n.run(t, nexus.Company{Name: name, Abbr: abbr})
	t.Logf("named in %s (load %s): %+v", time.Since(began), load, result)
	if again := n.run(t, nexus.Company{Name: name, Abbr: abbr}); again.Changed {
		t.Error("named again")
	}
	if len([]rune(name)) == 140 {
		name = strings.TrimSpace(string([]rune(name)[:140-3-len([]rune(want))]))
	}
	if name == "" {
		name, _, _ = strings.Cut(string(n.site), ".")
	}
	got := c.ask(t, "SET NAMES utf8mb4; SELECT CONCAT(name, '|', company_name, '|', abbr) FROM "+n.op(nil).DB+".tabCompany")
	if !strings.HasPrefix(strings.ReplaceAll(got, `\\`, `\`), name+"|"+name+"|"+want) && name != "" {
		t.Errorf("the company is %q", got)
	}
	if left := c.placeholders(t, n.op(nil).DB) + c.cached(t, n.op(nil).DB); left != "" {
		t.Errorf("left: %s", left)
	}
	n.run(t, n.plan("starter", 7))
	n.run(t, nexus.EnsureUser{Email: n.email, FullName: "Jane Doe", Password: "Passw0rdXyz"})
	n.pair = n.key(i, "k")
	n.run(t, n.pair)
	n.run(t, nexus.Mark{State: nexus.TenantActive})
	if i < 5 {
		n.invoices(t, name, want)
	}
	if left := c.placeholders(t, n.op(nil).DB); left != "" {
		t.Errorf("left: %s", left)
	}
	testDrop(t, n)
}

// placeholders are the cells of a database with a template's name or abbreviation.
func (c *country) placeholders(t *testing.T, db string) string {
	t.Helper()
	name, abbr := c.words(t)
	rows := c.ask(t, "SELECT CONCAT(c.table_name, '|', c.column_name) FROM information_schema.columns c JOIN information_schema.tables t USING (table_schema, table_name) WHERE table_schema = '"+db+"' AND character_set_name IS NOT NULL AND table_type = 'BASE TABLE'")
	var ask strings.Builder
	for _, row := range strings.Split(strings.TrimSpace(rows), "\n") {
		table, column, _ := strings.Cut(row, "|")
		fmt.Fprintf(&ask, "SELECT '%s', COUNT(*) FROM %s.`%s` WHERE LOWER(`%s`) LIKE '%%%s%%' OR LOWER(`%s`) LIKE '%%%s%%' HAVING COUNT(*) > 0;\n", row, db, table,
			column, strings.ToLower(name), column, strings.ToLower(abbr))
	}
	return c.ask(t, ask.String())
}

// words are the template's name and abbreviation.
func (c *country) words(t *testing.T) (name, abbr string) {
	t.Helper()
	var record struct{ Company struct{ Name, Abbr string } }
	if err := json.Unmarshal([]byte(c.box.Sh(t, "cat sites/.nexus/templates/"+string(c.site)+"/template.json")), &record); err != nil || record.Company.Name == "" {
		t.Fatalf("the template's record: %v", err)
	}
	return record.Company.Name, record.Company.Abbr
}

// cached are the keys in the bench's Redis servers that have one of the words for a site.
func (c *country) cached(t *testing.T, db string) string {
	t.Helper()
	name, abbr := c.words(t)
	return c.box.Sh(t, fmt.Sprintf(`env/bin/python - <<'E'
import json, redis
config = json.load(open("sites/common_site_config.json"))
for name in ("redis_cache", "redis_queue"):
    r = redis.Redis.from_url(config[name])
    for key in r.scan_iter("%s|*", count=1000):
        read = {b"string": r.get, b"hash": lambda k: repr(r.hgetall(k)).encode(), b"list": lambda k: repr(r.lrange(k, 0, -1)).encode(), b"set": lambda k: repr(r.smembers(k)).encode()}[r.type(key)]
        text = key + b" " + (read(key) or b"")
        if b"%s" in text or b"%s" in text: print(key.decode(), text[:300])
E`, db, name, abbr))
}

// invoices works with the site as its user does.
func (n *tenant) invoices(t *testing.T, company, abbr string) {
	t.Helper()
	call := func(method, path string, body map[string]any) map[string]any {
		t.Helper()
		began := time.Now()
		status, said := n.ask(t, n.pair, method, path, body)
		if status != http.StatusOK {
			t.Fatalf("%s %s: %d %.1500s", method, path, status, said)
		}
		var answer struct{ Data, Message json.RawMessage }
		out := map[string]any{}
		if json.Unmarshal([]byte(said), &answer) == nil {
			_ = json.Unmarshal(answer.Data, &out)
			if len(answer.Message) > 0 && answer.Message[0] == '{' {
				_ = json.Unmarshal(answer.Message, &out)
			}
		}
		t.Logf("%s %s: %s", method, path, time.Since(began).Round(time.Millisecond))
		return out
	}
	call("POST", "/api/resource/Customer", map[string]any{"customer_name": "Acme"})
	call("POST", "/api/resource/Item", map[string]any{"item_code": "Pump", "item_group": "Products", "stock_uom": "Nos", "is_stock_item": 0})
	invoice := call("POST", "/api/resource/Sales Invoice", map[string]any{"customer": "Acme", "items": []any{map[string]any{"item_code": "Pump", "qty": 2, "rate": 50}}})
	if invoice["company"] != company || !strings.HasSuffix(fmt.Sprint(invoice["debit_to"]), " - "+abbr) {
		t.Errorf("the invoice: %v, %v", invoice["company"], invoice["debit_to"])
	}
	path := "/api/resource/Sales Invoice/" + fmt.Sprint(invoice["name"])
	call("PUT", path, map[string]any{"docstatus": 1})
	year := time.Now().Year()
	report := call("POST", "/api/method/frappe.desk.query_report.run", map[string]any{"report_name": "Trial Balance", "filters": map[string]any{
		"company": company, "fiscal_year": n.year(t, company), "from_date": fmt.Sprintf("%d-11-01", year), "to_date": time.Now().Format("2006-01-02")}})
	if rows, _ := json.Marshal(report["result"]); !strings.Contains(string(rows), `"closing_debit":100`) {
		t.Errorf("the trial balance: %.600s", rows)
	}
	call("PUT", path, map[string]any{"docstatus": 2})
	accounts := call("POST", "/api/method/frappe.client.get_value", map[string]any{"doctype": "Account", "filters": map[string]any{"is_group": 1, "root_type": "Expense"}, "fieldname": "name"})
	account := call("POST", "/api/resource/Account", map[string]any{"account_name": "Coffee", "company": company, "parent_account": accounts["name"]})
	if account["name"] != "Coffee - "+abbr {
		t.Errorf("a new account: %v", account["name"])
	}
	call("POST", "/api/resource/Cost Center", map[string]any{"cost_center_name": "North", "company": company, "is_group": 0, "parent_cost_center": company + " - " + abbr})
	n.desk(t)
}

// year is the fiscal year of today.
func (n *tenant) year(t *testing.T, company string) string {
	t.Helper()
	status, said := n.ask(t, n.pair, "POST", "/api/method/erpnext.accounts.utils.get_fiscal_year", map[string]any{"date": time.Now().Format("2006-01-02"), "company": company})
	var answer struct{ Message []any }
	if err := json.Unmarshal([]byte(said), &answer); err != nil || len(answer.Message) == 0 {
		t.Fatalf("the fiscal year: %d %s", status, said)
	}
	return fmt.Sprint(answer.Message[0])
}

// desk logs in with the password and opens the desk.
func (n *tenant) desk(t *testing.T) {
	t.Helper()
	ask := func(method, path, body, cookie string) (status int, cookies []*http.Cookie) {
		request, err := http.NewRequestWithContext(t.Context(), method, "http://"+n.addr+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		request.Host = string(n.site)
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("Cookie", cookie)
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		return response.StatusCode, response.Cookies()
	}
	login, cookies := ask("POST", "/api/method/login", `{"usr":"`+n.email+`","pwd":"Passw0rdXyz"}`, "")
	sid := ""
	for _, cookie := range cookies {
		if cookie.Name == "sid" {
			sid = cookie.Value
		}
	}
	desk, _ := ask("GET", "/app", "", "sid="+sid)
	if desk == http.StatusMovedPermanently || desk == http.StatusFound {
		desk, _ = ask("GET", "/desk", "", "sid="+sid) // 16
	}
	if login != http.StatusOK || sid == "" || sid == "Guest" || desk != http.StatusOK {
		t.Errorf("login %d, desk %d", login, desk)
	}
}

// TestWizardKilledBench kills set_up in the wizard, and asks for what there is not.
func TestWizardKilledBench(t *testing.T) {
	b, g := realBench(t)
	t.Run("hello", func(t *testing.T) { testHello(t, g) })
	c := &country{g.model(t, b, "killed"), "US"}
	c.raw(t)
	for _, args := range []nexus.SetUp{{Country: "XX"}, {Country: "DE", Chart: "SKR99"}, {Country: "AQ"}} {
		_, err := c.do(t, args)
		if nexus.CodeOf(err) != nexus.Invalid {
			t.Errorf("%+v: %v", args, err)
		}
		t.Log(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := c.do(t, nexus.SetUp{Country: "US"})
		done <- err
	}()
	standin.Await(t, "the wizard", func() bool {
		return strings.Contains(b.Sh(t, "cat sites/.nexus/templates/"+string(c.site)+"/site_config.json"), `"company"`)
	})
	b.Sh(t, `sleep 4; kill -9 $(env/bin/python -c 'import json; print(json.load(open("sites/.nexus/fence/`+c.op(nil).DB+`.gen"))["pid"])')`)
	t.Log(<-done)
	c.gen++
	for range 2 {
		if result := c.must(t, nexus.SetUp{Country: "US"}); !result.Skipped || result.Changed || len(result.Note) < 10 {
			t.Errorf("set up after a kill: %+v", result)
		}
	}
	_, err := c.do(t, nexus.Freeze{Spec: "US", Apps: c.apps})
	if nexus.CodeOf(err) != nexus.Internal {
		t.Errorf("frozen: %v", err)
	}
	t.Log(err)
	c.must(t, nexus.DropSite{})
}
