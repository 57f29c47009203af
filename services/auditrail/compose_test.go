package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	composecli "github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

// loadCompose reads the Compose file as docker compose would.
func loadCompose(t *testing.T) *types.Project {
	t.Helper()
	opts, err := composecli.NewProjectOptions([]string{filepath.Join("..", "..", "docker-compose.yml")},
		composecli.WithEnv([]string{"CLICKHOUSE_PASSWORD=secret", "OIDC_ISSUER=https://issuer.example"}), composecli.WithInterpolation(true), composecli.WithResolvedPaths(true))
	if err != nil {
		t.Fatal(err)
	}
	p, err := opts.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestComposeFile(t *testing.T) {
	p := loadCompose(t)
	manual, set := "", map[string]bool{}
	for _, name := range []string{"kafka", "clickhouse", "redis", "migrate", "ingest", "query", "reporter"} {
		s, err := p.GetService(name)
		if err != nil {
			t.Error(err)
			continue
		}
		for _, port := range s.Ports {
			if port.HostIP != "127.0.0.1" {
				t.Errorf("%s publishes %s on %q, want loopback", name, port.Published, port.HostIP)
			}
		}
		if s.Build == nil {
			continue
		}
		if _, err := os.Stat(filepath.Join(s.Build.Context, s.Build.Dockerfile)); err != nil {
			t.Error(err)
		}
		help, _, code := auditrail(t, "", s.Command[0], "--help")
		if code != 0 {
			t.Errorf("%s runs auditrail %v, which is no subcommand", name, s.Command)
		}
		manual += strings.Join(strings.Fields(help), " ")
		for v := range s.Environment {
			set[v] = true
		}
	}
	// The services share most variables: each must be a flag of one of them.
	for v := range set {
		if !strings.Contains(manual, "$"+v) {
			t.Errorf("%s is set, and no service knows it", v)
		}
	}
	names := p.ServiceNames()
	slices.Sort(names)
	if len(names) != 7 {
		t.Errorf("got services %v, want seven", names)
	}
	// Who makes reports and who hands them out have one store.
	for _, name := range []string{"query", "reporter"} {
		s, err := p.GetService(name)
		if err != nil {
			t.Fatal(err)
		}
		where := s.Environment["AUDITRAIL_REPORT_STORE"]
		if where == nil || !slices.ContainsFunc(s.Volumes, func(v types.ServiceVolumeConfig) bool {
			return v.Type == types.VolumeTypeVolume && v.Source == "reports" && v.Target == *where && !v.ReadOnly
		}) {
			t.Errorf("%s does not mount the volume of reports where it looks for them: %+v", name, s.Volumes)
		}
	}
}
