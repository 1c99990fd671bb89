package manifest

import (
	"context"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestCorpusHasEveryField checks that the manifests in Traefik Hub's syntax which
// other tests load have each field of each kind somewhere.
func TestCorpusHasEveryField(t *testing.T) {
	tree, err := List([]string{"../../testdata/manifests/hub"})
	if err != nil {
		t.Fatal(err)
	}
	o := Load(context.Background(), tree.Files).Objects
	everyField(t, o.APIs)
	everyField(t, o.Versions)
	everyField(t, o.Bundles)
	everyField(t, o.Plans)
	everyField(t, o.Applications)
	everyField(t, o.Subscriptions)
	everyField(t, o.CatalogItems)
	everyField(t, o.Auths)
	everyField(t, o.Accesses)
	everyField(t, o.RateLimits)
	for _, want := range []string{"data.key", "stringData.key", "type"} {
		if !slices.ContainsFunc(o.Secrets, func(s *Secret) bool {
			return slices.ContainsFunc(s.fields, func(f field) bool { return f.path == want })
		}) {
			t.Errorf("no Secret has %s", want)
		}
	}
}

var indexes = regexp.MustCompile(`\[\d+\]`)

// everyField checks that any of the objects has each field of their spec.
func everyField[T object[E], E any](t *testing.T, objects []T) {
	t.Helper()
	seen := map[string]bool{}
	for _, o := range objects {
		for _, f := range o.source().fields {
			seen[indexes.ReplaceAllString(f.path, "")] = true
		}
	}
	kind := reflect.TypeFor[E]()
	spec, _ := kind.FieldByName("Spec")
	for _, path := range fieldsOf("spec", spec.Type) {
		if !seen[path] {
			t.Errorf("no %s has %s", kind.Name(), path)
		}
	}
}

// fieldsOf returns the paths of all that a type holds.
func fieldsOf(path string, t reflect.Type) []string {
	paths := []string{path}
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return paths
	}
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		paths = append(paths, fieldsOf(path+"."+name, t.Field(i).Type)...)
	}
	return paths
}
