package kube

import (
	"context"
	"fmt"
	"reflect"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Objects are objects in memory, from manifests or from a cluster, that are read as a cluster is: a [Reader] on them says what
// the speakers would see. It selects by namespace and labels; selectors of fields are not looked at, as every conversion
// looks itself. It may be read from several goroutines.
type Objects []client.Object

// Get finds one object by kind and name.
func (o Objects) Get(_ context.Context, key client.ObjectKey, into client.Object, _ ...client.GetOption) error {
	for _, object := range o {
		if reflect.TypeOf(object) == reflect.TypeOf(into) && client.ObjectKeyFromObject(object) == key {
			reflect.ValueOf(into).Elem().Set(reflect.ValueOf(object.DeepCopyObject()).Elem())
			return nil
		}
	}
	return apierrors.NewNotFound(schema.GroupResource{Resource: fmt.Sprintf("%T", into)}, key.String())
}

// List finds the objects of a kind.
func (o Objects) List(_ context.Context, into client.ObjectList, opts ...client.ListOption) error {
	var options client.ListOptions
	options.ApplyOptions(opts)
	items, err := meta.GetItemsPtr(into)
	if err != nil {
		return fmt.Errorf("listing into %T: %w", into, err)
	}
	kind := reflect.PointerTo(reflect.TypeOf(items).Elem().Elem())
	var found []runtime.Object
	for _, object := range o {
		elsewhere := options.Namespace != "" && object.GetNamespace() != options.Namespace
		unlike := options.LabelSelector != nil && !options.LabelSelector.Matches(labels.Set(object.GetLabels()))
		if reflect.TypeOf(object) == kind && !elsewhere && !unlike {
			found = append(found, object.DeepCopyObject())
		}
	}
	return meta.SetList(into, found)
}

// With returns the objects with others added to them, in place of those of the same kind and name.
func (o Objects) With(others ...client.Object) Objects {
	type id struct {
		kind reflect.Type
		key  client.ObjectKey
	}
	of := func(object client.Object) id { return id{reflect.TypeOf(object), client.ObjectKeyFromObject(object)} }
	out, at := make(Objects, 0, len(o)+len(others)), map[id]int{}
	for _, object := range append(o[:len(o):len(o)], others...) {
		if i, ok := at[of(object)]; ok {
			out[i] = object
			continue
		}
		at[of(object)] = len(out)
		out = append(out, object)
	}
	return out
}
