package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"text/template"

	"gopkg.in/yaml.v3"

	"github.com/tollgate-apim/tollgate/bench/report"
	"github.com/tollgate-apim/tollgate/e2e/stack"
)

// foreignFile describes a plugin in its folder.
const foreignFile = "bench.yml"

// foreign is a plugin of somebody else, to be measured too.
type foreign struct {
	// Module is the module path of the plugin.
	Module string `yaml:"module"`
	// Header has the lines to send.
	Header map[string]string `yaml:"header"`
	// Config is what stands under the plugin's name in a dynamic configuration.
	Config map[string]any `yaml:"config"`

	name, dir string
	keys      int
}

// foreigns returns the plugins below a folder, each twice: with one key and with
// 1,000.
func foreigns(folder string) ([]foreign, error) {
	if folder == "" {
		return nil, nil
	}
	files, err := filepath.Glob(filepath.Join(folder, "*", foreignFile))
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("-plugins: no folder in %s has a %s", folder, foreignFile)
	}
	sort.Strings(files)
	var found []foreign
	for _, file := range files {
		for _, keys := range []int{1, 1000} {
			f, err := readForeign(file, keys)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
			found = append(found, f)
		}
	}
	return found, nil
}

// readForeign fills in a description, which is a template: .Keys are all keys,
// .Key the one to send. It is the one in the middle, for plugins that search.
func readForeign(file string, keys int) (foreign, error) {
	f := foreign{dir: filepath.Dir(file), keys: keys}
	f.name = filepath.Base(f.dir)
	data, err := os.ReadFile(file)
	if err != nil {
		return f, err
	}
	described, err := template.New(foreignFile).Option("missingkey=error").Parse(string(data))
	if err != nil {
		return f, err
	}
	all := make([]string, keys)
	for i := range all {
		all[i] = string(numberedKey(nil, uint64(i)))
	}
	var text bytes.Buffer
	if err := described.Execute(&text, map[string]any{"Keys": all, "Key": all[keys/2]}); err != nil {
		return f, err
	}
	decoder := yaml.NewDecoder(&text)
	decoder.KnownFields(true)
	if err := decoder.Decode(&f); err != nil {
		return f, err
	}
	if f.Module == "" || len(f.Header) == 0 || len(f.Config) == 0 {
		return f, fmt.Errorf("needs module, header and config")
	}
	return f, nil
}

// row returns how the plugin is measured.
func (f foreign) row() *row {
	var lines strings.Builder
	for name, value := range f.Header {
		fmt.Fprintf(&lines, "%s: %s\r\n", name, value)
	}
	return &row{
		Row: report.Row{
			Name:   fmt.Sprintf("%s-%d", f.name, f.keys),
			Title:  f.name + ", " + report.Keys(f.keys),
			Status: 200, Foreign: f.name, Keys: f.keys,
		},
		middlewares: []stack.Middleware{{Plugin: map[string]any{f.name: f.Config}}},
		credentials: func(buf []byte, _ uint64) []byte { return append(buf, lines.String()...) },
	}
}
