package v1beta1

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel/model"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/cel/environment"
	"sigs.k8s.io/yaml"
)

const crdDir = "../../charts/fairlead/files/crds"

// apiServer judges objects as a real API server does with our CRD: schema, list types and CEL.
type apiServer struct {
	schema     *structuralschema.Structural
	properties validation.SchemaValidator
	rules      *cel.Validator
}

// servers are made once: to compile the rules takes a while.
var servers sync.Map

func newAPIServer(t testing.TB, resource string) apiServer {
	t.Helper()
	if had, ok := servers.Load(resource); ok {
		return had.(apiServer)
	}
	made := makeAPIServer(t, resource)
	servers.Store(resource, made)
	return made
}

func makeAPIServer(t testing.TB, resource string) apiServer {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(crdDir, "fairlead.dev_"+resource+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var v1 apiextensionsv1.CustomResourceDefinition
	if err := yaml.UnmarshalStrict(text, &v1); err != nil {
		t.Fatal(err)
	}
	apiextensionsv1.SetDefaults_CustomResourceDefinition(&v1)
	apiextensionsv1.SetDefaults_CustomResourceDefinitionSpec(&v1.Spec)
	var crd apiextensions.CustomResourceDefinition
	if err := apiextensionsv1.Convert_v1_CustomResourceDefinition_To_apiextensions_CustomResourceDefinition(&v1, &crd, nil); err != nil {
		t.Fatal(err)
	}
	props, err := apiextensions.GetSchemaForVersion(&crd, Version)
	if err != nil {
		t.Fatal(err)
	}
	properties, _, err := validation.NewSchemaValidator(props.OpenAPIV3Schema)
	if err != nil {
		t.Fatal(err)
	}
	schema, err := structuralschema.NewStructural(props.OpenAPIV3Schema)
	if err != nil {
		t.Fatal(err)
	}
	return apiServer{schema, properties, cel.NewValidator(schema, true, celconfig.PerCallLimit)}
}

// An API server refuses a CRD with a rule that could cost more than this.
const costLimit = 10_000_000

func TestRulesCompileWithinTheirBudget(t *testing.T) {
	for resource, least := range map[string]int{"ipaddresspools": 3, "l2advertisements": 1, "bgppeers": 20, "bgpadvertisements": 2,
		"bfdprofiles": 1, "communities": 2, "speakerstatuses": 0} {
		if rules := checkCost(t, resource, newAPIServer(t, resource).schema, 1); rules < least {
			t.Errorf("%s: found %d rules, are they all generated?", resource, rules)
		}
	}
}

// checkCost compiles the rules of s and below; s may occur times times in an object. It returns how many rules there are.
func checkCost(t *testing.T, path string, s *structuralschema.Structural, times uint64) int {
	envs := environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion())
	rules, err := cel.Compile(s, model.SchemaDeclType(s, false), celconfig.PerCallLimit, envs, cel.NewExpressionsEnvLoader())
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	for i, r := range rules {
		if r.Error != nil || r.MaxCost*times > costLimit {
			t.Errorf("%s: rule %d costs up to %d (%v), the limit is %d", path, i, r.MaxCost*times, r.Error, costLimit)
		}
	}
	n := len(rules)
	for name, p := range s.Properties {
		n += checkCost(t, path+"."+name, &p, times)
	}
	if s.Items != nil {
		items := uint64(1 << 20)
		if s.ValueValidation != nil && s.ValueValidation.MaxItems != nil {
			items = uint64(*s.ValueValidation.MaxItems)
		}
		n += checkCost(t, path+"[]", s.Items, times*items)
	}
	return n
}

func (a apiServer) validate(object any) field.ErrorList {
	text, err := json.Marshal(object)
	if err != nil {
		panic(err)
	}
	var u map[string]any
	if err := utiljson.Unmarshal(text, &u); err != nil { // numbers as the API server reads them
		panic(err)
	}
	defaulting.Default(u, a.schema)
	errs := validation.ValidateCustomResource(nil, u, a.properties)
	errs = append(errs, listtype.ValidateListSetsAndMaps(nil, a.schema, u)...)
	if len(errs) == 0 {
		errs, _ = a.rules.Validate(context.Background(), nil, a.schema, u, nil, celconfig.RuntimeCELCostBudget)
	}
	return errs
}

// TestGeneratedFilesAreCurrent runs the generators into a directory of its own and compares. It takes two seconds once
// controller-gen is compiled.
func TestGeneratedFilesAreCurrent(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command("go", "tool", "controller-gen", "object", "crd", "paths=.", "output:dir="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	generated, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range generated {
		committed := filepath.Join(crdDir, file.Name())
		if strings.HasSuffix(file.Name(), ".go") {
			committed = file.Name()
		}
		want, err := os.ReadFile(filepath.Join(dir, file.Name()))
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(committed)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("%s is stale; run `make generate` and commit (-generated now +committed):\n%s", committed, diff)
		}
	}
	crds, err := os.ReadDir(crdDir)
	if err != nil || len(crds) != len(generated)-1 {
		t.Errorf("%s has %d files (%v), of which %d are generated", crdDir, len(crds), err, len(generated)-1)
	}
}
