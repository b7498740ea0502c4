package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/accio-go/accio/stage"
)

// What packagers install: see its README section.
const monitoring = "../../server/monitoring"

// dashboardQueries are all queries of the dashboard.
func dashboardQueries(t *testing.T) (queries []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(monitoring, "dashboard.json"))
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels     []struct{ Targets []struct{ Expr string } }
		Templating struct{ List []struct{ Query any } }
	}
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	for _, p := range dashboard.Panels {
		for _, target := range p.Targets {
			queries = append(queries, target.Expr)
		}
	}
	return queries
}

// alertQueries are all queries of the rules, with what stands around them.
func alertQueries(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(monitoring, "alerts.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var (
	metricName  = regexp.MustCompile(`\b(?:accio|go|process)_[a-z_]+`)
	outcomeList = regexp.MustCompile(`outcome(?:=|!=|=~|!~)"([^"]*)"`)
)

func TestDashboardAndAlertsUseWhatThereIs(t *testing.T) {
	s := newServer(t.Context(), Config{Directory: newFakeDir(t), Slots: 1})
	families, err := newRegistry(s).Gather()
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, f := range families {
		name := f.GetName()
		known[name] = true
		if f.Metric[0].Histogram != nil {
			known[name+"_bucket"], known[name+"_sum"], known[name+"_count"] = true, true, true
		}
	}
	outcomes := map[string]bool{}
	for _, o := range stage.Outcomes() {
		outcomes[o.String()] = true
	}
	used := map[string]bool{}
	for where, text := range map[string]string{"dashboard": strings.Join(dashboardQueries(t), "\n"), "alerts": alertQueries(t)} {
		names := metricName.FindAllString(text, -1)
		if len(names) == 0 {
			t.Errorf("%s: no metric is used", where)
		}
		for _, name := range names {
			used[strings.TrimSuffix(name, "_bucket")] = true
			if !known[name] {
				t.Errorf("%s: there is no %s", where, name)
			}
		}
		for _, m := range outcomeList.FindAllStringSubmatch(text, -1) {
			for _, o := range strings.Split(m[1], "|") {
				if !outcomes[o] {
					t.Errorf("%s: there is no outcome %q", where, o)
				}
			}
		}
	}
	// And all of ours are shown somewhere.
	for _, f := range families {
		if name := f.GetName(); strings.HasPrefix(name, "accio_") && !used[name] {
			t.Errorf("%s is used by neither", name)
		}
	}
}

// promtool checks what Prometheus would not take, where it is installed.
func TestPromtool(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if errors.Is(err, exec.ErrNotFound) {
		t.Skip("promtool is not installed")
	}
	run := func(args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), promtool, args...)
		cmd.Dir = monitoring
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
	run("check", "rules", "alerts.yaml")
	run("test", "rules", "alerts_test.yaml")

	// What the dashboard asks for, as rules.
	var rules strings.Builder
	rules.WriteString("groups:\n  - name: dashboard\n    rules:\n")
	grafana := strings.NewReplacer("$__rate_interval", "1m", "$__range", "1h", "$job", ".+", "$instance", ".+")
	for i, q := range dashboardQueries(t) {
		fmt.Fprintf(&rules, "      - {record: 'query:%d', expr: %q}\n", i, grafana.Replace(q))
	}
	file := filepath.Join(t.TempDir(), "dashboard.yaml")
	if err := os.WriteFile(file, []byte(rules.String()), 0o666); err != nil {
		t.Fatal(err)
	}
	run("check", "rules", file)
}
