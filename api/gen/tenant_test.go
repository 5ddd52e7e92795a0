package gen_test

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nexus-erp/provisioner/api/gen"
)

// TestTenantOfSignup: the request of an operator has every field of a signup.
func TestTenantOfSignup(t *testing.T) {
	t.Parallel()
	var request gen.SignupRequest
	for fields, i := reflect.ValueOf(&request).Elem(), 0; i < fields.NumField(); i++ {
		field, text := fields.Field(i), fields.Type().Field(i).Name
		if field.Kind() == reflect.Pointer {
			field.Set(reflect.New(field.Type().Elem()))
			field = field.Elem()
		}
		field.SetString(text)
	}
	fields := func(value any) (out map[string]any) {
		text, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, &out); err != nil {
			t.Fatal(err)
		}
		return out
	}
	if diff := cmp.Diff(fields(request), fields(request.Tenant())); diff != "" {
		t.Error(diff)
	}
	if got := (gen.SignupRequest{}).Tenant(); got != (gen.TenantRequest{}) {
		t.Errorf("an empty one becomes %+v", got)
	}
}
