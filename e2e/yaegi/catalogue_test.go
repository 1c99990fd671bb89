package yaegi

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/mitchellh/mapstructure"
	"gopkg.in/yaml.v3"

	"github.com/tollgate-apim/tollgate/e2e/stack"
)

// catalogueLimit is how long Traefik's plugin catalogue waits for New.
const catalogueLimit = 10 * time.Second

// manifest is the part of .traefik.yml that the catalogue looks at.
type manifest struct {
	DisplayName string         `yaml:"displayName"`
	Type        string         `yaml:"type"`
	Import      string         `yaml:"import"`
	Summary     string         `yaml:"summary"`
	TestData    map[string]any `yaml:"testData"`
}

// TestCatalogue does what Traefik's plugin catalogue does before it lists a
// plugin: it loads it under a Yaegi that has the standard symbols and nothing
// else, decodes testData into what CreateConfig returns, and calls New.
func TestCatalogue(t *testing.T) {
	gopath := t.TempDir()
	root, err := stack.CopyPlugin(gopath, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	m := readManifest(t, filepath.Join(root, ".traefik.yml"))
	for _, host := range hosts(t) {
		t.Run(host.name, func(t *testing.T) {
			begin := time.Now()
			callNew(t, gopath, host, m)
			if took := time.Since(begin); took > catalogueLimit {
				t.Errorf("loading the plugin and calling New took %s, more than %s", took, catalogueLimit)
			}
		})
	}
}

func readManifest(t *testing.T, path string) manifest {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var m manifest
	if err := yaml.Unmarshal(data, &m); err != nil {
		t.Fatal(err)
	}
	if m.Type != "middleware" || m.Import != module || m.DisplayName == "" || m.Summary == "" || len(m.TestData) == 0 {
		t.Fatalf(".traefik.yml is incomplete: %+v", m)
	}
	return m
}

func callNew(t *testing.T, gopath string, host host, m manifest) {
	t.Helper()
	i := newInterpreter(t, gopath, host.symbols)
	if _, err := i.Eval(`import "` + m.Import + `"`); err != nil {
		t.Fatalf("importing the plugin: %v", err)
	}
	createConfig, err := i.Eval(`tollgate.CreateConfig`)
	if err != nil {
		t.Fatal(err)
	}
	config := createConfig.Call(nil)[0]
	decoder, err := mapstructure.NewDecoder(&mapstructure.DecoderConfig{
		DecodeHook:       mapstructure.StringToSliceHookFunc(","),
		WeaklyTypedInput: true,
		ErrorUnused:      true, // Traefik ignores unknown names; our own file has none.
		Result:           config.Interface(),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := decoder.Decode(m.TestData); err != nil {
		t.Fatalf("decoding testData: %v", err)
	}
	constructor, err := i.Eval(`tollgate.New`)
	if err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	next := http.NotFoundHandler()
	results := constructor.Call([]reflect.Value{reflect.ValueOf(ctx), reflect.ValueOf(next), config, reflect.ValueOf("test")})
	if err, _ := results[1].Interface().(error); err != nil {
		t.Fatalf("New refuses testData: %v", err)
	}
	if _, ok := results[0].Interface().(http.Handler); !ok {
		t.Errorf("New returns a %s, which is no http.Handler", results[0].Type())
	}
}
