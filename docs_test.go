package tollgate

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/traefik/genconf/dynamic/types"
)

// docs/configuration.md lists each field with its default, and no others.
func TestDocumentedFields(t *testing.T) {
	page, err := os.ReadFile("docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]string{}
	for _, line := range strings.Split(string(page), "\n") {
		cells := strings.Split(line, " | ")
		if strings.HasPrefix(line, "| `") && len(cells) == 4 {
			documented[strings.Trim(cells[0], "| `")] = strings.Trim(cells[1], "`")
		}
	}

	config := CreateConfig()
	// These are left out of JSON when they are empty.
	config.Sync.TLS = types.ClientTLS{CA: "set", Cert: "set", Key: "set", InsecureSkipVerify: true}
	encoded, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	decoder := json.NewDecoder(strings.NewReader(string(encoded)))
	decoder.UseNumber()
	var object map[string]interface{}
	if err := decoder.Decode(&object); err != nil {
		t.Fatal(err)
	}
	real := map[string]string{}
	flatten(real, "", object)
	for _, field := range []string{"ca", "cert", "key"} {
		real["sync.tls."+field] = `""`
	}
	real["sync.tls.insecureSkipVerify"] = "false"

	for field, want := range real {
		got, ok := documented[field]
		if !ok {
			t.Errorf("%s is not documented", field)
		} else if got != want {
			t.Errorf("%s: the documented default is %s, the real one %s", field, got, want)
		}
		delete(documented, field)
	}
	for field := range documented {
		t.Errorf("%s is documented but does not exist", field)
	}
}

// flatten puts the leaves of an object into fields, by their path, as the page
// writes them.
func flatten(fields map[string]string, path string, object map[string]interface{}) {
	for name, value := range object {
		if inner, ok := value.(map[string]interface{}); ok {
			flatten(fields, path+name+".", inner)
			continue
		}
		text := fmt.Sprint(value)
		if value == nil {
			text = "[]"
		} else if text == "" {
			text = `""`
		}
		fields[path+name] = text
	}
}
