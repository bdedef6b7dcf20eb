package manifest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	strictjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// Object is one object as it is written.
type Object struct {
	unstructured.Unstructured
	Source string // where it is from, for messages: "pools.yaml, document 2"; "" = a cluster
}

// Group returns the API group of the object, "" for Kubernetes' own.
func (o Object) Group() string { return o.GroupVersionKind().Group }

// Is reports whether the object is of the group and kind, in whatever version.
func (o Object) Is(group, kind string) bool {
	return o.GroupVersionKind().GroupKind() == schema.GroupKind{Group: group, Kind: kind}
}

// Title names the object in messages: "IPAddressPool fairlead-system/default".
func (o Object) Title() string { return Title(o.GetKind(), o.GetNamespace(), o.GetName()) }

// Title names an object in messages: "IPAddressPool fairlead-system/default", without the namespace if there is none.
func Title(kind, namespace, name string) string {
	if namespace != "" {
		name = namespace + "/" + name
	}
	return kind + " " + name
}

// Parse returns the objects in text, in their order, those in Lists one by one. Empty documents are skipped. The error names
// the document that cannot be read; the objects before it are returned all the same.
func Parse(source string, text []byte) ([]Object, error) {
	var out []Object
	documents := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	for n := 1; ; n++ {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		where := fmt.Sprintf("%s, document %d", source, n)
		if err != nil {
			return out, fmt.Errorf("reading %s: %w", where, err)
		}
		objects, err := parseOne(where, document)
		if err != nil {
			return out, fmt.Errorf("reading %s: %w", where, err)
		}
		out = append(out, objects...)
	}
}

// parseOne returns the object of one document, or those of a List.
func parseOne(where string, document []byte) ([]Object, error) {
	raw, err := yaml.YAMLToJSONStrict(document)
	if err != nil {
		return nil, err
	}
	if string(raw) == "null" {
		return nil, nil
	}
	var fields map[string]any
	if err := strictjson.UnmarshalCaseSensitivePreserveInts(raw, &fields); err != nil {
		return nil, errors.New("is no object; it must begin with apiVersion and kind")
	}
	return expand(where, fields)
}

func expand(where string, fields map[string]any) ([]Object, error) {
	o := Object{unstructured.Unstructured{Object: fields}, where}
	items, isList := fields["items"].([]any)
	switch {
	case o.GetAPIVersion() == "" || o.GetKind() == "":
		return nil, errors.New("has no apiVersion or no kind, which every object must have")
	case !strings.HasSuffix(o.GetKind(), "List") || !isList:
		return []Object{o}, nil
	}
	var out []Object
	for i, item := range items {
		of := fmt.Sprintf("%s, item %d", where, i+1)
		member, ok := item.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("item %d is no object", i+1)
		}
		if member["kind"] == nil && o.GetKind() != "List" { // lists of one kind leave it out
			member["apiVersion"], member["kind"] = o.GetAPIVersion(), strings.TrimSuffix(o.GetKind(), "List")
		}
		objects, err := expand(of, member)
		if err != nil {
			return nil, fmt.Errorf("item %d %w", i+1, err)
		}
		out = append(out, objects...)
	}
	return out, nil
}

// FieldError is a field that cannot be taken over into a type.
type FieldError struct {
	Field   string // "spec.addresses[0]"
	Message string // "is unknown"
}

// Decode reads the object into a typed one, into which must be a pointer. It returns every field that the type has not, and a
// value of a wrong type, at which it stops.
func (o Object) Decode(into any) []FieldError {
	raw, err := json.Marshal(o.Object)
	if err != nil {
		return []FieldError{{Message: err.Error()}}
	}
	return decode(raw, into)
}

func decode(raw []byte, into any) []FieldError {
	var out []FieldError
	strict, err := strictjson.UnmarshalStrict(raw, into)
	var mistyped *json.UnmarshalTypeError
	switch {
	case errors.As(err, &mistyped):
		return []FieldError{{mistyped.Field, fmt.Sprintf("is a %s, which cannot be read as %s", mistyped.Value, mistyped.Type)}}
	case err != nil:
		return []FieldError{{Message: err.Error()}}
	}
	for _, e := range strict {
		field, message := "", e.Error()
		var at strictjson.FieldError
		if errors.As(e, &at) {
			field = at.FieldPath()
			message = "is unknown"
			if strings.HasPrefix(e.Error(), "duplicate") {
				message = "occurs twice"
			}
		}
		out = append(out, FieldError{field, message})
	}
	return out
}

// DecodeText reads YAML or JSON text into a typed value as [Object.Decode] does.
func DecodeText(text []byte, into any) []FieldError {
	raw, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		return []FieldError{{Message: err.Error()}}
	}
	return decode(raw, into)
}

// Render writes objects as YAML documents, without status and what else only the API server fills in.
func Render(objects ...runtime.Object) ([]byte, error) {
	var out bytes.Buffer
	for i, o := range objects {
		fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
		if err != nil {
			return nil, fmt.Errorf("rendering %T: %w", o, err)
		}
		delete(fields, "status")
		for _, name := range []string{"creationTimestamp", "resourceVersion", "uid", "generation", "managedFields"} {
			unstructured.RemoveNestedField(fields, "metadata", name)
		}
		text, err := yaml.Marshal(fields)
		if err != nil {
			return nil, fmt.Errorf("rendering %T: %w", o, err)
		}
		if i > 0 {
			out.WriteString("---\n")
		}
		out.Write(text)
	}
	return out.Bytes(), nil
}
