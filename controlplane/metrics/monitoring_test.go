package metrics_test

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"go.yaml.in/yaml/v3"
)

// monitoring is the folder of dashboards and alerts.
const monitoring = "../../monitoring"

// dashboard is what Grafana reads, as far as it is checked.
type dashboard struct {
	ID            any    `json:"id"`
	UID           string `json:"uid"`
	Title         string `json:"title"`
	Description   string `json:"description"`
	SchemaVersion int    `json:"schemaVersion"`
	Templating    struct {
		List []struct {
			Name       string `json:"name"`
			Type       string `json:"type"`
			Definition string `json:"definition"`
			Query      query  `json:"query"`
			Refresh    int    `json:"refresh"`
			Datasource struct {
				UID string `json:"uid"`
			} `json:"datasource"`
		} `json:"list"`
	} `json:"templating"`
	Panels []panel `json:"panels"`
}

// onTimeRange is when Grafana asks for a variable's values: again for each other time
// that is looked at.
const onTimeRange = 2

// query is what a variable is made of: a text, or an object that has it.
type query struct{ text string }

func (q *query) UnmarshalJSON(data []byte) error {
	var object struct{ Query string }
	if json.Unmarshal(data, &object) == nil {
		q.text = object.Query
		return nil
	}
	return json.Unmarshal(data, &q.text)
}

type panel struct {
	ID          int    `json:"id"`
	Type        string `json:"type"`
	Title       string `json:"title"`
	Description string `json:"description"`
	GridPos     struct {
		X, Y, W, H int
	} `json:"gridPos"`
	Datasource struct {
		UID string `json:"uid"`
	} `json:"datasource"`
	FieldConfig struct {
		Defaults struct {
			Unit string `json:"unit"`
		} `json:"defaults"`
		Overrides []struct {
			Matcher struct{ ID, Options string }
		} `json:"overrides"`
	} `json:"fieldConfig"`
	Targets []struct {
		Datasource struct {
			UID string `json:"uid"`
		} `json:"datasource"`
		Expr         string `json:"expr"`
		LegendFormat string `json:"legendFormat"`
		RefID        string `json:"refId"`
		Instant      bool   `json:"instant"`
		Range        bool   `json:"range"`
		Format       string `json:"format"`
	} `json:"targets"`
	Options struct {
		SortBy []struct{ DisplayName string }
	} `json:"options"`
	Transformations []struct {
		ID      string
		Options struct{ RenameByName map[string]string }
	} `json:"transformations"`
}

func dashboards(t *testing.T) map[string]dashboard {
	t.Helper()
	files, err := filepath.Glob(monitoring + "/grafana/*.json")
	if err != nil || len(files) != 2 {
		t.Fatalf("got %v, %v", files, err)
	}
	all := map[string]dashboard{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var d dashboard
		if err := json.Unmarshal(data, &d); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all[filepath.Base(file)] = d
	}
	return all
}

// TestDashboards checks what Grafana needs of a dashboard that many import.
func TestDashboards(t *testing.T) {
	uids := map[string]bool{}
	for file, d := range dashboards(t) {
		if d.ID != nil || d.UID == "" || uids[d.UID] || d.Title == "" || d.Description == "" || d.SchemaVersion < 39 {
			t.Errorf("%s: id %v, uid %q, title %q, schema %d", file, d.ID, d.UID, d.Title, d.SchemaVersion)
		}
		uids[d.UID] = true
		if v := d.Templating.List; len(v) == 0 || v[0].Name != "datasource" || v[0].Type != "datasource" {
			t.Errorf("%s: the data source is no variable", file)
		}
		variables := map[string]bool{"$__rate_interval": true, "$__range": true}
		for i, v := range d.Templating.List {
			variables["$"+v.Name] = true
			if i > 0 && (v.Datasource.UID != "${datasource}" || v.Definition == "" || v.Definition != v.Query.text || v.Refresh != onTimeRange) {
				t.Errorf("%s: variable %s is not asked anew from the data source that is chosen: %+v", file, v.Name, v)
			}
		}
		taken := map[int]string{} // 24 * y + x
		ids := map[int]bool{}
		for _, p := range d.Panels {
			if p.ID <= 0 || ids[p.ID] || p.Title == "" {
				t.Errorf("%s: panel %q has the id %d", file, p.Title, p.ID)
			}
			ids[p.ID] = true
			g := p.GridPos
			if g.X < 0 || g.W < 1 || g.H < 1 || g.X+g.W > 24 {
				t.Errorf("%s: panel %q is at %+v", file, p.Title, g)
			}
			for y := g.Y; y < g.Y+g.H; y++ {
				for x := g.X; x < g.X+g.W; x++ {
					if other := taken[24*y+x]; other != "" {
						t.Fatalf("%s: panels %q and %q overlap", file, other, p.Title)
					}
					taken[24*y+x] = p.Title
				}
			}
			if p.Type == "row" {
				continue
			}
			if p.FieldConfig.Defaults.Unit == "" || p.Description == "" || p.Datasource.UID != "${datasource}" || len(p.Targets) == 0 {
				t.Errorf("%s: panel %q lacks a unit, a description, a variable data source or a query", file, p.Title)
			}
			refs := map[string]bool{}
			for _, target := range p.Targets {
				if target.Datasource.UID != "${datasource}" || target.RefID == "" || refs[target.RefID] {
					t.Errorf("%s: panel %q has a query %q from the data source %q", file, p.Title, target.RefID, target.Datasource.UID)
				}
				refs[target.RefID] = true
				for _, v := range regexp.MustCompile(`\$[a-z_]\w*`).FindAllString(target.Expr, -1) {
					if !variables[v] {
						t.Errorf("%s: panel %q uses %s, which there is not", file, p.Title, v)
					}
				}
			}
		}
	}
}

// alert is a rule of Prometheus.
type alert struct {
	Alert, Expr, For    string
	Labels, Annotations map[string]string
}

func alerts(t *testing.T) []alert {
	t.Helper()
	data, err := os.ReadFile(monitoring + "/prometheus/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Name  string
			Rules []alert
		}
	}
	if err := yaml.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Groups) != 1 || len(file.Groups[0].Rules) < 10 {
		t.Fatalf("got %+v", file)
	}
	return file.Groups[0].Rules
}

// TestAlerts checks that each alert says how grave it is and what is wrong, that
// the page tells of it, and that it is tested.
func TestAlerts(t *testing.T) {
	page, err := os.ReadFile("../../docs/monitoring.md")
	if err != nil {
		t.Fatal(err)
	}
	tests, err := os.ReadFile(monitoring + "/prometheus/alerts_test.yml")
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(Tollgate[A-Za-z]+)` \\| ([a-z]+) \\| ").FindAllStringSubmatch(string(page), -1) {
		told[m[1]] = m[2]
	}
	severities := map[string]string{}
	for _, a := range alerts(t) {
		severities[a.Alert] = a.Labels["severity"]
		if a.For == "" || a.Annotations["summary"] == "" || a.Annotations["description"] == "" || !slices.Contains([]string{"critical", "warning", "info"}, a.Labels["severity"]) {
			t.Errorf("%+v lacks something", a)
		}
		if !strings.Contains(string(tests), "- alertname: "+a.Alert+"\n") {
			t.Errorf("%s is not tested", a.Alert)
		}
	}
	if !maps.Equal(told, severities) {
		t.Errorf("the page tells of %v, want %v", told, severities)
	}
}

// TestQueriesUseWhatThereIs checks that each query of dashboards and alerts names
// metrics that a control plane has, and labels that those have.
func TestQueriesUseWhatThereIs(t *testing.T) {
	w := newWorld(t)
	w.fill()
	known := map[string][]string{"up": nil} // labels by metric
	for name, family := range w.gather() {
		labels := slices.Collect(maps.Keys(labelsOf(family.GetMetric()[0])))
		known[name] = labels
		if family.GetType().String() == "HISTOGRAM" {
			known[name+"_count"], known[name+"_sum"] = labels, labels
			known[name+"_bucket"] = append(slices.Clone(labels), "le")
		}
	}
	check := func(where, query string) []string {
		used, grouped := read(query)
		if len(used) == 0 {
			t.Errorf("%s: no metric in %s", where, query)
		}
		have := []string{"job", "instance"} // Prometheus adds them
		for _, u := range used {
			labels, ok := known[u.metric]
			if !ok {
				t.Errorf("%s: there is no metric %s", where, u.metric)
			}
			have = append(have, labels...)
			for _, label := range u.labels {
				if label != "job" && label != "instance" && !slices.Contains(labels, label) {
					t.Errorf("%s: %s has no label %s", where, u.metric, label)
				}
			}
		}
		for _, label := range grouped {
			if !slices.Contains(have, label) {
				t.Errorf("%s: groups by %s, which no metric has: %s", where, label, query)
			}
		}
		return have
	}
	for file, d := range dashboards(t) {
		for _, v := range d.Templating.List {
			if query, ok := strings.CutPrefix(v.Definition, "label_values("); ok {
				i := strings.LastIndex(query, ",")
				have := check(file+", variable "+v.Name, query[:i])
				if label := strings.Trim(query[i:], ", )"); !slices.Contains(have, label) {
					t.Errorf("%s: variable %s: there is no label %s", file, v.Name, label)
				}
			}
		}
		for _, p := range d.Panels {
			for _, target := range p.Targets {
				have := check(file+", "+p.Title, target.Expr)
				for _, m := range regexp.MustCompile(`{{(\w+)}}`).FindAllStringSubmatch(target.LegendFormat, -1) {
					if !slices.Contains(have, m[1]) {
						t.Errorf("%s: panel %q has a legend with %s, which no metric has", file, p.Title, m[1])
					}
				}
			}
		}
	}
	for _, a := range alerts(t) {
		have := check(a.Alert, a.Expr)
		for _, m := range regexp.MustCompile(`\$labels\.(\w+)`).FindAllStringSubmatch(a.Annotations["description"], -1) {
			if !slices.Contains(have, m[1]) {
				t.Errorf("%s: describes with %s, which no metric has", a.Alert, m[1])
			}
		}
	}
}

// TestQueriesAreSound checks that each query asks for its job alone, and reads counters
// and gauges as such: how fast counters grow, over a time that suits what is shown.
func TestQueriesAreSound(t *testing.T) {
	w := newWorld(t)
	w.fill()
	counters := map[string]bool{}
	for name, family := range w.gather() {
		switch family.GetType() {
		case dto.MetricType_COUNTER:
			counters[name] = true
		case dto.MetricType_HISTOGRAM:
			counters[name+"_bucket"], counters[name+"_count"], counters[name+"_sum"] = true, true, true
		}
	}
	check := func(where, query, job string, windows ...string) {
		t.Helper()
		used, _ := read(query)
		for _, u := range used {
			if !slices.Contains(u.matchers, "job"+job) {
				t.Errorf("%s: %s of any job", where, u.metric)
			}
			grows := u.function == "rate" || u.function == "increase"
			if counters[u.metric] != (grows || u.matched) {
				t.Errorf("%s: %s, a counter: %t, is read by %q", where, u.metric, counters[u.metric], u.function)
			}
			if grows && len(windows) > 0 && !slices.Contains(windows, u.window) {
				t.Errorf("%s: %s over %s, want one of %q", where, u.metric, u.window, windows)
			}
		}
	}
	for file, d := range dashboards(t) {
		for _, p := range d.Panels {
			for _, target := range p.Targets {
				where := file + ", " + p.Title
				if target.Instant == target.Range {
					t.Errorf("%s: asks for one time and for a range of it", where)
				}
				// What a line shows is a mean between two of its points.
				windows := []string{"$__rate_interval"}
				if target.Instant {
					windows = []string{"5m", "$__range"}
				}
				check(where, target.Expr, `=~"$job"`, windows...)
			}
		}
	}
	for _, a := range alerts(t) {
		check(a.Alert, a.Expr, `="tollgate"`)
	}
}

// TestTables checks that tables name each of their columns, and what they say of
// columns by those names.
func TestTables(t *testing.T) {
	for file, d := range dashboards(t) {
		for _, p := range d.Panels {
			if p.Type != "table" {
				continue
			}
			columns := map[string]string{}
			for _, transformation := range p.Transformations {
				if transformation.ID == "organize" {
					maps.Copy(columns, transformation.Options.RenameByName)
				}
			}
			for _, target := range p.Targets {
				if columns["Value #"+target.RefID] == "" || target.Format != "table" {
					t.Errorf("%s: table %q lacks a column for the query %s", file, p.Title, target.RefID)
				}
			}
			named := slices.Collect(maps.Values(columns))
			for _, o := range p.FieldConfig.Overrides {
				if o.Matcher.ID != "byName" || !slices.Contains(named, o.Matcher.Options) {
					t.Errorf("%s: table %q has no column %q", file, p.Title, o.Matcher.Options)
				}
			}
			for _, by := range p.Options.SortBy {
				if !slices.Contains(named, by.DisplayName) {
					t.Errorf("%s: table %q is sorted by %q, which it has not", file, p.Title, by.DisplayName)
				}
			}
		}
	}
}

// selector is a metric in a query, and the labels that it is chosen by.
type selector struct {
	metric string
	labels []string
	// matchers are what is asked of the labels, such as job="tollgate".
	matchers []string
	// window is over which time it is looked at, and function what does so; both are
	// empty for the last value. matched says that it only chooses among others.
	window, function string
	matched          bool
}

// token is a string, a word, a duration or number, or a sign of PromQL.
var token = regexp.MustCompile(`"(?:[^"\\]|\\.)*"|[a-zA-Z_:$][\w:]*|[0-9][\w.]*|[=!<>]=?~?|\S`)

// read returns what a query of PromQL chooses, and the labels by which it groups
// and matches. It knows as much of the language as to find them.
func read(query string) (used []selector, grouped []string) {
	tokens := token.FindAllString(query, -1)
	at := func(i int) string {
		if i < len(tokens) {
			return tokens[i]
		}
		return ""
	}
	for i := 0; i < len(tokens); i++ {
		switch word := tokens[i]; {
		case word == "by" || word == "without" || word == "on" || word == "ignoring" || word == "group_left" || word == "group_right":
			for i += 2; i < len(tokens) && tokens[i] != ")"; i++ {
				if tokens[i] != "," {
					grouped = append(grouped, tokens[i])
				}
			}
		case word == "[":
			for i < len(tokens) && tokens[i] != "]" {
				i++
			}
		case word == "offset":
			i++
		case !regexp.MustCompile(`^[a-zA-Z_:]`).MatchString(word) || at(i+1) == "(" || at(i+1) == "by":
		case word == "and" || word == "or" || word == "unless" || word == "bool":
		default:
			s := selector{metric: word, matched: i > 0 && tokens[i-1] == ")"}
			function := ""
			if i > 1 && tokens[i-1] == "(" {
				function = tokens[i-2]
			}
			if at(i+1) == "{" {
				for i += 2; i < len(tokens) && tokens[i] != "}"; i++ {
					if strings.HasPrefix(at(i+1), "=") || strings.HasPrefix(at(i+1), "!") {
						s.labels = append(s.labels, tokens[i])
						s.matchers = append(s.matchers, tokens[i]+at(i+1)+at(i+2))
					}
				}
			}
			if at(i+1) == "[" {
				s.window, s.function = at(i+2), function
			}
			used = append(used, s)
		}
	}
	return used, grouped
}

func TestRead(t *testing.T) {
	const query = `max by (job, a) (x{k=~"a{,}b", l!="c"}) < on (job) group_left () max(y offset 5m) and on (m) time() - sum(rate(z{}[$__range])) > 0.5 or vector(0)`
	used, grouped := read(query)
	if want := []string{`k=~"a{,}b"`, `l!="c"`}; !slices.Equal(used[0].matchers, want) || used[0].window != "" || used[0].matched {
		t.Errorf("got %+v, want the matchers %q", used[0], want)
	}
	if used[2].window != "$__range" || used[2].function != "rate" {
		t.Errorf("got %+v", used[2])
	}
	if used, _ = read(`x and on (a) y`); !used[1].matched {
		t.Errorf("got %+v", used)
	}
	used, _ = read(query)
	if len(used) != 3 || used[0].metric != "x" || !slices.Equal(used[0].labels, []string{"k", "l"}) || used[1].metric != "y" || used[2].metric != "z" {
		t.Errorf("got %+v", used)
	}
	if want := []string{"job", "a", "job", "m"}; !slices.Equal(grouped, want) {
		t.Errorf("got %q, want %q", grouped, want)
	}
}
