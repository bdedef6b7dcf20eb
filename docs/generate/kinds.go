package main

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

// kindsSection returns the tables of all kinds, sorted by file name.
func kindsSection(dir string) (string, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil || len(files) == 0 {
		return "", fmt.Errorf("looking for CRDs in %s: %d found, %w", dir, len(files), err)
	}
	out := ""
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			return "", fmt.Errorf("reading a CRD: %w", err)
		}
		var crd apiextensionsv1.CustomResourceDefinition
		if err := yaml.UnmarshalStrict(text, &crd); err != nil {
			return "", fmt.Errorf("reading %s: %w", name, err)
		}
		out += kindSection(crd)
	}
	return out, nil
}

func kindSection(crd apiextensionsv1.CustomResourceDefinition) string {
	version := crd.Spec.Versions[0]
	schema := version.Schema.OpenAPIV3Schema
	out := fmt.Sprintf("## %s\n\n%s\n\n`apiVersion: %s/%s`, `kubectl get %s`\n\n", crd.Spec.Names.Kind, strings.Join(strings.Fields(schema.Description), " "),
		crd.Spec.Group, version.Name, crd.Spec.Names.Plural)
	for _, part := range []string{"spec", "status"} {
		of, ok := schema.Properties[part]
		if !ok || len(of.Properties) == 0 {
			continue
		}
		w := walker{rows: [][]string{{"field", "type", "default", "allowed", "what it does"}}}
		w.children(part, of)
		if part == "status" {
			out += "What Fairlead reports in it:\n\n"
		}
		out += markdown(w.rows) + "\n"
		if len(w.rules) > 0 {
			out += "Fields that depend on each other:\n\n" + strings.Join(w.rules, "\n") + "\n\n"
		}
	}
	return out
}

// walker collects the rows of the fields below one, and the rules about several of them.
type walker struct {
	rows  [][]string
	rules []string
}

func (w *walker) children(path string, s apiextensionsv1.JSONSchemaProps) {
	for _, rule := range s.XValidations {
		w.rules = append(w.rules, fmt.Sprintf("- `%s%s`: %s", path, rule.FieldPath, rule.Message))
	}
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		w.field(path+"."+name, s.Properties[name], slices.Contains(s.Required, name))
	}
}

// field adds the row of a field, and those below it, unless it is of a type of Kubernetes'.
func (w *walker) field(path string, s apiextensionsv1.JSONSchemaProps, required bool) {
	item, list := &s, ""
	if s.Items != nil {
		item, list = s.Items.Schema, "list of "
	}
	known := kubernetes(*item)
	standard := ""
	switch {
	case s.Default != nil:
		standard = "`" + string(s.Default.Raw) + "`"
	case required && strings.HasPrefix(path, "spec"):
		standard = "required"
	}
	w.rows = append(w.rows, []string{"`" + path + "`", list + cmp.Or(known, typeOf(*item)), standard, allowed(s), s.Description})
	if known != "" {
		return
	}
	if s.Items != nil {
		path += "[]"
	}
	if len(item.Properties) > 0 {
		w.children(path, *item)
	}
}

// kubernetes names the types that are explained in Kubernetes' own reference.
func kubernetes(s apiextensionsv1.JSONSchemaProps) string {
	has := func(names ...string) bool {
		return len(s.Properties) == len(names) && !slices.ContainsFunc(names, func(n string) bool { _, ok := s.Properties[n]; return !ok })
	}
	switch {
	case has("matchExpressions", "matchLabels"):
		return "label selector"
	case has("lastTransitionTime", "message", "observedGeneration", "reason", "status", "type"):
		return "condition"
	}
	return ""
}

func typeOf(s apiextensionsv1.JSONSchemaProps) string {
	switch {
	case s.AdditionalProperties != nil && s.AdditionalProperties.Schema != nil:
		return "map of " + typeOf(*s.AdditionalProperties.Schema)
	case s.Format == "date-time":
		return "time"
	}
	return s.Type
}

// allowed says which values the schema lets through.
func allowed(s apiextensionsv1.JSONSchemaProps) string {
	var out []string
	if len(s.Enum) > 0 {
		var words []string
		for _, e := range s.Enum {
			words = append(words, "`"+strings.Trim(string(e.Raw), `"`)+"`")
		}
		out = append(out, strings.Join(words, ", "))
	}
	out = append(out, span(s.Minimum, s.Maximum, ""), span(number(s.MinLength), number(s.MaxLength), " characters"), span(number(s.MinItems), number(s.MaxItems), " entries"))
	for _, rule := range s.XValidations {
		if s.Type != "object" {
			out = append(out, rule.Message)
		}
	}
	if s.Items != nil && s.Items.Schema.Type != "object" {
		if each := allowed(*s.Items.Schema); each != "" {
			out = append(out, "each: "+each)
		}
	}
	return strings.Join(slices.DeleteFunc(out, func(s string) bool { return s == "" }), "; ")
}

func number(n *int64) *float64 {
	if n == nil {
		return nil
	}
	return new(float64(*n))
}

// span says from what to what, each end nil = any.
func span(from, to *float64, unit string) string {
	switch {
	case from == nil && to == nil:
		return ""
	case to == nil:
		return fmt.Sprintf("from %.0f%s", *from, unit)
	case from == nil:
		return fmt.Sprintf("up to %.0f%s", *to, unit)
	case *from == *to:
		return fmt.Sprintf("%.0f%s", *from, unit)
	}
	return fmt.Sprintf("%.0f to %.0f%s", *from, *to, unit)
}
