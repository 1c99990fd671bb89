package stack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// Prometheus is a running Prometheus.
type Prometheus struct {
	*Process
	url string
}

// errNoPrometheus says what to do about programs that are missing.
var errNoPrometheus = errors.New("prometheus or promtool is missing: these tests need them, so install Debian's package prometheus")

// Promtool returns the program that checks what Prometheus reads.
func Promtool() (string, error) {
	binary, err := exec.LookPath("promtool")
	if err != nil {
		return "", errNoPrometheus
	}
	return binary, nil
}

// StartPrometheus starts Debian's Prometheus with a configuration, and returns once
// it answers. Its files are in dir.
func StartPrometheus(ctx context.Context, dir, configuration string) (*Prometheus, error) {
	binary, err := exec.LookPath("prometheus")
	if err != nil {
		return nil, errNoPrometheus
	}
	config := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(config, []byte(configuration), 0o600); err != nil {
		return nil, err
	}
	address, err := FreeAddress()
	if err != nil {
		return nil, err
	}
	process, err := Start("prometheus", dir, binary,
		"--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+address, "--log.level=warn")
	if err != nil {
		return nil, err
	}
	p := &Prometheus{Process: process, url: "http://" + address}
	err = Until(ctx, "prometheus to answer", 30*time.Second, func() error {
		_, _, err := get(ctx, p.url+"/-/ready", nil)
		return err
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w; prometheus says: %s", err, p.Log.Tail(5)), p.Stop())
	}
	return p, nil
}

// Sample is what a query finds: a time series, by its labels.
type Sample struct {
	Metric map[string]string `json:"metric"`
	Value  [2]any            `json:"value"` // time and number, as text
}

// Query returns what a query in PromQL finds now.
func (p *Prometheus) Query(ctx context.Context, query string) ([]Sample, error) {
	var answer struct {
		Data struct {
			Result []Sample `json:"result"`
		} `json:"data"`
	}
	err := p.ask(ctx, "/api/v1/query?query="+url.QueryEscape(query), &answer)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", query, err)
	}
	return answer.Data.Result, nil
}

// Rule is an alert that Prometheus knows of.
type Rule struct {
	Name string `json:"name"`
	// Health is "ok" once it has been evaluated well, and State "inactive" unless
	// it is being told.
	Health    string `json:"health"`
	State     string `json:"state"`
	LastError string `json:"lastError"`
}

// Rules returns the alerts that Prometheus knows of.
func (p *Prometheus) Rules(ctx context.Context) ([]Rule, error) {
	var answer struct {
		Data struct {
			Groups []struct {
				Rules []Rule `json:"rules"`
			} `json:"groups"`
		} `json:"data"`
	}
	var rules []Rule
	err := p.ask(ctx, "/api/v1/rules", &answer)
	for _, group := range answer.Data.Groups {
		rules = append(rules, group.Rules...)
	}
	return rules, err
}

func (p *Prometheus) ask(ctx context.Context, path string, answer any) error {
	body, _, err := get(ctx, p.url+path, http.Header{})
	if err != nil {
		return err
	}
	return json.Unmarshal(body, answer)
}
