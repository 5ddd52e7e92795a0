package api_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
)

func document(t *testing.T) *openapi3.T {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromFile("openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// holder is one place of the document that has a schema and examples.
type holder struct {
	where    string
	body     bool
	schema   *openapi3.SchemaRef
	example  any
	examples openapi3.Examples
}

// holders are all parameters, bodies and headers of all operations.
func holders(doc *openapi3.T) (out []holder) {
	content := func(where string, c openapi3.Content) {
		for kind, media := range c {
			out = append(out, holder{where + " " + kind, true, media.Schema, media.Example, media.Examples})
		}
	}
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			where := method + " " + path
			for _, p := range slices.Concat(item.Parameters, op.Parameters) {
				out = append(out, holder{where + " " + p.Value.Name, false, p.Value.Schema, p.Value.Example, p.Value.Examples})
			}
			if op.RequestBody != nil {
				content(where+" body", op.RequestBody.Value.Content)
			}
			for status, response := range op.Responses.Map() {
				content(where+" "+status, response.Value.Content)
				for name, header := range response.Value.Headers {
					out = append(out, holder{where + " " + status + " " + name, false, header.Value.Schema, header.Value.Example, nil})
				}
			}
		}
	}
	return out
}

// TestExamples: each body of a request or an answer has an example, each problem one with
// its status, and each example fits its schema.
func TestExamples(t *testing.T) {
	t.Parallel()
	shown := 0
	for _, h := range holders(document(t)) {
		all := map[string]any{}
		if h.example != nil {
			all["example"] = h.example
		}
		for name, e := range h.examples {
			all[name] = e.Value.Value
		}
		if len(all) == 0 && h.body {
			t.Errorf("%s has no example", h.where)
		}
		for name, value := range all {
			shown++
			if err := h.schema.Value.VisitJSON(value, openapi3.EnableFormatValidation()); err != nil {
				t.Errorf("%s: the example %s: %v", h.where, name, err)
			}
			problem, ok := value.(map[string]any)
			if !ok || !strings.HasSuffix(h.where, "application/problem+json") {
				continue
			}
			if status := strings.Fields(h.where)[2]; fmt.Sprint(problem["status"]) != status {
				t.Errorf("%s: the example %s has the status %v", h.where, name, problem["status"])
			}
			if to, _ := problem["type"].(string); !strings.HasSuffix(to, "#"+problem["code"].(string)) {
				t.Errorf("%s: the example %s is of the type %s", h.where, name, to)
			}
		}
	}
	if shown < 150 {
		t.Errorf("only %d examples were looked at", shown)
	}
}

// TestBounds: everything that is sent or answered has limits, so that a client can check
// before it sends, and knows the size of an answer. A stream has none.
func TestBounds(t *testing.T) {
	t.Parallel()
	seen := map[*openapi3.Schema]bool{}
	var look func(where string, ref *openapi3.SchemaRef)
	look = func(where string, ref *openapi3.SchemaRef) {
		s := ref.Value
		if seen[s] {
			return
		}
		seen[s] = true
		switch {
		case s.Type.Is("string"):
			if s.MaxLength == nil && len(s.Enum) == 0 && s.Format != "date-time" {
				t.Errorf("%s: a string without maxLength, enum or a format that bounds it", where)
			}
		case s.Type.Is("integer"), s.Type.Is("number"):
			if s.Min == nil || s.Max == nil {
				t.Errorf("%s: a number without minimum or maximum", where)
			}
		case s.Type.Is("array"):
			if s.MaxItems == nil {
				t.Errorf("%s: an array without maxItems", where)
			}
			look(where+"[]", s.Items)
		case s.Type.Is("object"):
			for name, property := range s.Properties {
				look(where+"."+name, property)
			}
		case !s.Type.Is("boolean"):
			t.Errorf("%s has no type", where)
		}
	}
	doc := document(t)
	for _, h := range holders(doc) {
		if !strings.HasSuffix(h.where, " text/event-stream") {
			look(h.where, h.schema)
		}
	}
	for name, schema := range doc.Components.Schemas {
		look(name, schema)
	}
	if len(seen) < 60 {
		t.Errorf("only %d schemas were looked at", len(seen))
	}
}

// TestWords: the contract lists exactly the codes and reasons that the code has, and every
// 202 has the same schema.
func TestWords(t *testing.T) {
	t.Parallel()
	doc := document(t)
	for name, kind := range map[string]string{"Code": "Code", "Reason": "Reason", "Wait": "Wait", "Kind": "Kind", "State": "State"} {
		want, listed := constants(t, "../internal/nexus", kind), doc.Components.Schemas[name].Value.Enum
		got := make([]string, len(listed))
		for i, value := range listed {
			got[i] = fmt.Sprint(value)
		}
		slices.Sort(got)
		if len(want) < 5 || !slices.Equal(want, got) {
			t.Errorf("%s: the code has %v, and the contract %v", name, want, got)
		}
	}
	recorded := 0
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			if r := op.Responses.Value("202"); r != nil {
				recorded++
				if at := r.Value.Content["application/json"].Schema.Ref; at != "#/components/schemas/Accepted" {
					t.Errorf("%s %s answers 202 with %s", method, path, at)
				}
			}
		}
	}
	if recorded != 9 {
		t.Errorf("%d calls answer 202", recorded)
	}
}

// constants returns the values of a package's constants of one type, sorted.
func constants(t *testing.T, dir, kind string) (out []string) {
	t.Helper()
	files, err := filepath.Glob(dir + "/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok || len(spec.Values) != 1 {
				return true
			}
			id, named := spec.Type.(*ast.Ident)
			lit, literal := spec.Values[0].(*ast.BasicLit)
			if named && literal && id.Name == kind {
				out = append(out, strings.Trim(lit.Value, `"`))
			}
			return true
		})
	}
	slices.Sort(out)
	return out
}
