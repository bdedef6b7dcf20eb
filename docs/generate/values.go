package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// schema is what values.schema.json says of one value.
type schema struct {
	Ref         string            `json:"$ref"`
	AllOf       []schema          `json:"allOf"`
	Type        string            `json:"type"`
	Description string            `json:"description"`
	Properties  map[string]schema `json:"properties"`
	Definitions map[string]schema `json:"definitions"`
	Items       *schema           `json:"items"`
	Enum        []string          `json:"enum"`
	Minimum     *float64          `json:"minimum"`
	Maximum     *float64          `json:"maximum"`
}

// valuesSection returns the table of the chart's values: the defaults of values.yaml, with what the schema says of each.
func valuesSection(chart string) (string, error) {
	var root schema
	var values map[string]any
	text, err := os.ReadFile(filepath.Join(chart, "values.schema.json"))
	if err == nil {
		err = json.Unmarshal(text, &root)
	}
	if err != nil {
		return "", fmt.Errorf("reading the schema of the values: %w", err)
	}
	if text, err = os.ReadFile(filepath.Join(chart, "values.yaml")); err == nil {
		err = yaml.UnmarshalStrict(text, &values)
	}
	if err != nil {
		return "", fmt.Errorf("reading the values: %w", err)
	}
	rows := [][]string{{"value", "type", "default", "allowed", "what it does"}}
	rows, err = root.rows(rows, "", root, values)
	if err != nil {
		return "", err
	}
	return "## Values of the chart\n\n`helm show values charts/fairlead` prints them with their defaults; `values.schema.json` refuses others.\n\n" + markdown(rows), nil
}

// rows appends a row for each value below path. The receiver has the definitions.
func (s schema) rows(rows [][]string, path string, of schema, values map[string]any) ([][]string, error) {
	for _, name := range slices.Sorted(maps.Keys(values)) {
		at := strings.TrimPrefix(path+"."+name, ".")
		found, ok := s.resolved(of).Properties[name]
		if !ok {
			return nil, fmt.Errorf("values.schema.json does not have %s of values.yaml", at)
		}
		child := s.resolved(found)
		if below, isMap := values[name].(map[string]any); isMap && len(child.Properties) > 0 {
			var err error
			if rows, err = s.rows(rows, at, child, below); err != nil {
				return nil, err
			}
			continue
		}
		if child.Description == "" {
			return nil, fmt.Errorf("values.schema.json has no description of %s", at)
		}
		standard, err := json.Marshal(values[name])
		if err != nil {
			return nil, fmt.Errorf("printing the default of %s: %w", at, err)
		}
		kind := child.kind()
		if found.Ref == "#/definitions/duration" {
			kind = "duration"
		}
		rows = append(rows, []string{"`" + at + "`", kind, "`" + string(standard) + "`", child.allowed(), child.Description})
	}
	return rows, nil
}

// resolved follows $ref and allOf. A description beside a $ref counts.
func (s schema) resolved(of schema) schema {
	out := of
	if name, ok := strings.CutPrefix(of.Ref, "#/definitions/"); ok {
		out = s.Definitions[name]
		if of.Description != "" {
			out.Description = of.Description
		}
	}
	for _, part := range of.AllOf {
		if part = s.resolved(part); len(part.Properties) > 0 {
			out.Properties = part.Properties
		}
	}
	return out
}

func (s schema) kind() string {
	switch {
	case len(s.Enum) > 0:
		return "string"
	case s.Items != nil:
		return "list of " + s.Items.Type
	case s.Type == "array":
		return "list"
	}
	return s.Type
}

func (s schema) allowed() string {
	var words []string
	for _, e := range s.Enum {
		words = append(words, "`"+e+"`")
	}
	return strings.TrimPrefix(strings.Join(words, ", ")+span(s.Minimum, s.Maximum, ""), ", ")
}
