package manifest

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-lb/fairlead/api/v1beta1"
)

const pool = "apiVersion: fairlead.dev/v1beta1\nkind: IPAddressPool\nmetadata: {name: p, namespace: ns}\nspec: {addresses: [192.0.2.0/28]}\n"

func titles(objects []Object) []string {
	var out []string
	for _, o := range objects {
		out = append(out, o.Title()+" @ "+o.Source)
	}
	return out
}

func TestParse(t *testing.T) {
	for name, c := range map[string]struct {
		text  string
		want  []string
		wrong string // part of the error
	}{
		"nothing":        {text: ""},
		"comments":       {text: "# only\n---\n# comments\n"},
		"one":            {text: pool, want: []string{"IPAddressPool ns/p @ f, document 1"}},
		"two":            {text: pool + "---\n" + pool, want: []string{"IPAddressPool ns/p @ f, document 1", "IPAddressPool ns/p @ f, document 2"}},
		"empty between":  {text: pool + "---\n\n---\n" + pool, want: []string{"IPAddressPool ns/p @ f, document 1", "IPAddressPool ns/p @ f, document 3"}},
		"JSON":           {text: `{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x"}}`, want: []string{"Namespace x @ f, document 1"}},
		"List":           {text: `{"apiVersion": "v1", "kind": "List", "items": [{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "a"}}, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "b"}}]}`, want: []string{"Node a @ f, document 1, item 1", "Node b @ f, document 1, item 2"}},
		"list of a kind": {text: `{"apiVersion": "v1", "kind": "NodeList", "items": [{"metadata": {"name": "a"}}]}`, want: []string{"Node a @ f, document 1, item 1"}},
		"no kind":        {text: "spec: {}\n", wrong: "f, document 1: has no apiVersion"},
		"item without":   {text: `{"apiVersion": "v1", "kind": "List", "items": [{}]}`, wrong: "item 1 has no apiVersion"},
		"item no object": {text: `{"apiVersion": "v1", "kind": "List", "items": [7]}`, wrong: "item 1 is no object"},
		"key twice":      {text: pool + "spec: {}\n", wrong: "spec"},
		"no YAML":        {text: "a: {{ .Values.b }}\n---\n" + pool, wrong: "document 1"},
		"bad second":     {text: pool + "---\n- 1\n", want: []string{"IPAddressPool ns/p @ f, document 1"}, wrong: "f, document 2: is no object"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Parse("f", []byte(c.text))
			if d := cmp.Diff(c.want, titles(got)); d != "" {
				t.Errorf("objects (-want +got):\n%s", d)
			}
			if (err == nil) != (c.wrong == "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
				t.Errorf("error is %v, want %q", err, c.wrong)
			}
		})
	}
}

func TestDecodeNamesWhatItCannotTake(t *testing.T) {
	for name, c := range map[string]struct {
		spec string
		want []FieldError
	}{
		"all known": {spec: "{addresses: [192.0.2.0/28], autoAssign: false}"},
		"unknown":   {spec: "{addresses: [], protocol: layer2, serviceAllocation: {prio: 1}}", want: []FieldError{{"spec.protocol", "is unknown"}, {"spec.serviceAllocation.prio", "is unknown"}}},
		"case":      {spec: "{Addresses: []}", want: []FieldError{{"spec.Addresses", "is unknown"}}},
		"mistyped":  {spec: "{addresses: 192.0.2.0/28}", want: []FieldError{{"spec.addresses", "is a string, which cannot be read as []string"}}},
	} {
		t.Run(name, func(t *testing.T) {
			objects, err := Parse("f", []byte("apiVersion: fairlead.dev/v1beta1\nkind: IPAddressPool\nmetadata: {name: p}\nspec: "+c.spec))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.want, objects[0].Decode(&v1beta1.IPAddressPool{})); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestRenderIsReadBack(t *testing.T) {
	objects, err := Parse("f", []byte(pool))
	if err != nil {
		t.Fatal(err)
	}
	var typed v1beta1.IPAddressPool
	if wrong := objects[0].Decode(&typed); len(wrong) > 0 {
		t.Fatal(wrong)
	}
	typed.ResourceVersion, typed.Status.AssignedIPv4 = "7", 3
	text, err := Render(&typed, &typed)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Parse("f", text)
	if err != nil || len(again) != 2 {
		t.Fatalf("read back %d objects, %v, from\n%s", len(again), err, text)
	}
	if d := cmp.Diff(objects[0].Object, again[1].Object); d != "" {
		t.Errorf("(-written +read):\n%s", d)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(pool + "---\n" + pool)
	f.Add(`{"apiVersion": "v1", "kind": "NodeList", "items": [{"metadata": {"name": "a"}}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		objects, _ := Parse("f", []byte(text))
		for _, o := range objects {
			if o.GetKind() == "" || o.GetAPIVersion() == "" {
				t.Errorf("an object without kind: %v", o.Object)
			}
			o.Decode(&v1beta1.IPAddressPool{})
		}
	})
}
