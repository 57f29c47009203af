package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// docBlock is a fenced block of a page.
type docBlock struct {
	section string // its last heading
	lang    string // "" for commands
	text    string
}

// docBlocks lists the fenced blocks of a Markdown text.
func docBlocks(text string) []docBlock {
	var blocks []docBlock
	var b docBlock
	inside := false
	for line := range strings.Lines(text) {
		lang, fence := strings.CutPrefix(strings.TrimRight(line, "\n"), "```")
		switch {
		case fence && !inside:
			b.lang, b.text, inside = lang, "", true
		case fence:
			blocks, inside = append(blocks, b), false
		case inside:
			b.text += line
		case strings.HasPrefix(line, "#"):
			b.section = strings.TrimSpace(line)
		}
	}
	return blocks
}

// command is a block of commands that has run.
type command struct {
	docBlock
	status, wanted int // of the last request; wanted 0: any that says success
	body           string
}

// checkDocs runs the commands of docs/api.md against d and compares the last
// request's answer of each block with what the page shows: a block of JSON or
// CSV is of one of the commands before it in its section, and of the one just
// before it when it is a problem.
func (d *devProcess) checkDocs(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "api.md"))
	if err != nil {
		t.Fatal(err)
	}
	var all []docBlock
	for _, b := range docBlocks(string(page)) {
		if b.lang != "" || strings.Contains(b.text, "curl ") {
			all = append(all, b)
		}
	}
	var ran []command
	token, checked := d.token(), 0
	for i, b := range all {
		if b.lang == "" {
			c := command{docBlock: b}
			if i+1 < len(all) && all[i+1].lang == "json" {
				var shown struct{ Status int }
				if err := json.Unmarshal([]byte(all[i+1].text), &shown); err != nil {
					t.Fatalf("%s: %v\n%s", b.section, err, all[i+1].text)
				}
				c.wanted = shown.Status
			}
			c.run(t, d, token)
			ran = append(ran, c)
			continue
		}
		checked++
		var reasons []string
		for _, c := range slices.Backward(ran) {
			if c.section != b.section {
				break
			}
			why := c.shows(b)
			if why == "" {
				reasons = nil
				break
			}
			reasons = append(reasons, why)
			if c.wanted > 0 {
				break
			}
		}
		if len(ran) == 0 || ran[len(ran)-1].section != b.section || reasons != nil {
			t.Errorf("%s: no command gives what is shown\n%s\n%s", b.section, b.text, strings.Join(reasons, "\n"))
		}
	}
	if len(ran) < 5 || checked < 5 {
		t.Errorf("%d commands and %d answers: is the page still read right?", len(ran), checked)
	}
}

// checkWalk runs the commands of docs/reports.md against d, in one shell, as who
// reads the page does, and compares the answers that it shows.
func (d *devProcess) checkWalk(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "reports.md"))
	if err != nil {
		t.Fatal(err)
	}
	const mark = "\n-- end of block --\n"
	script := "set -e\n"
	blocks := docBlocks(strings.ReplaceAll(string(page), "http://127.0.0.1:8080", "http://"+d.http))
	for _, b := range blocks {
		if b.lang == "" {
			script += b.text + "printf '" + strings.ReplaceAll(mark, "\n", `\n`) + "'\n"
		}
	}
	dir := t.TempDir()
	for name, target := range map[string]string{"bin/auditrail": binary(), "data": d.data} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	sh := exec.Command("sh", "-c", script)
	sh.Dir = dir
	var errs bytes.Buffer
	sh.Stderr = &errs
	out, err := sh.Output()
	if err != nil {
		t.Fatalf("%v\n%s%s", err, out, errs.String())
	}
	answers := strings.Split(string(out), mark)
	at, shown := -1, 0
	for _, b := range blocks {
		if b.lang == "" {
			at++
			continue
		}
		shown++
		if why := (&command{body: answers[at]}).shows(b); why != "" {
			t.Errorf("%s: %s", b.section, why)
		}
	}
	if shown == 0 || !strings.Contains(string(out), `"state":"Finished"`) || !strings.Contains(string(out), " is what its manifest says\n") {
		t.Errorf("the page's report was not finished and verified:\n%s", out)
	}
}

// run runs it as a shell does.
func (c *command) run(t *testing.T, d *devProcess, token string) {
	t.Helper()
	headers := filepath.Join(t.TempDir(), "headers")
	// Requests within $(...) come before the last one.
	script := `curl() { command curl -D "$HEADERS" "$@"; }` + "\n" + c.text
	sh := exec.Command("sh", "-c", script)
	sh.Env = append(os.Environ(), "API=http://"+d.http, "TOKEN="+token, "HEADERS="+headers)
	sh.Dir = t.TempDir()
	var out, errs bytes.Buffer
	sh.Stdout, sh.Stderr = &out, &errs
	if err := sh.Run(); err != nil {
		t.Fatalf("%s: %v\n%s\n%s", c.section, err, c.text, errs.String())
	}
	head, err := os.ReadFile(headers)
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^HTTP/\S+ (\d+)`).FindAllStringSubmatch(string(head), -1)
	if len(found) == 0 {
		t.Fatalf("%s: no status in %q", c.section, head)
	}
	if _, err := fmt.Sscan(found[len(found)-1][1], &c.status); err != nil {
		t.Fatal(err)
	}
	c.body = out.String()
	if c.wanted > 0 && c.status != c.wanted || c.wanted == 0 && c.status/100 != 2 {
		t.Errorf("%s: status %d, want %d (0: success)\n%s\n%.500s", c.section, c.status, c.wanted, c.text, c.body)
	}
}

// shows compares the answer with what the page shows; "" when it is so.
func (c *command) shows(b docBlock) string {
	if b.lang == "csv" {
		if got, _, _ := strings.Cut(c.body, "\r\n"); got != strings.TrimSpace(b.text) {
			return "the first line is " + got
		}
		return ""
	}
	var want, got any
	if err := json.Unmarshal([]byte(b.text), &want); err != nil {
		return err.Error()
	}
	if err := json.NewDecoder(strings.NewReader(c.body)).Decode(&got); err != nil { // of JSON Lines, the first
		return err.Error() + ": " + c.body
	}
	return differs("", want, got)
}

// exact are the members whose values are those of the page; of the others the
// kind is.
var exact = []string{"type", "title", "status", "field", "valid", "canonical", "interval", "timezone", "openapi"}

// differs says where an answer lacks what the page shows; "" when it has all.
// "..." stands for anything, null too; an element of a list may stand anywhere.
func differs(at string, want, got any) string {
	name := at[strings.LastIndexByte(at, '.')+1:]
	switch want := want.(type) {
	case nil:
		return ""
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			return fmt.Sprintf("%s is %v, not an object", at, got)
		}
		for k, v := range want {
			if k == "..." {
				continue
			}
			if _, ok := g[k]; !ok {
				return fmt.Sprintf("%s has no %s", at, k)
			}
			if why := differs(at+"."+k, v, g[k]); why != "" {
				return why
			}
		}
		return ""
	case []any:
		g, ok := got.([]any)
		if !ok {
			return fmt.Sprintf("%s is %v, not a list", at, got)
		}
		for i, v := range want {
			if v != "..." && !slices.ContainsFunc(g, func(x any) bool { return differs(at, v, x) == "" }) {
				return fmt.Sprintf("%s has nothing like element %d among %d", at, i, len(g))
			}
		}
		return ""
	}
	if want == "..." || want == got || fmt.Sprintf("%T", want) == fmt.Sprintf("%T", got) && !slices.Contains(exact, name) {
		return ""
	}
	return fmt.Sprintf("%s is %v, not like %v", at, got, want)
}

func TestThePageIsCompared(t *testing.T) {
	parse := func(s string) (v any) {
		if err := json.Unmarshal([]byte(s), &v); err != nil {
			t.Fatal(err)
		}
		return v
	}
	for _, c := range []struct {
		page, answer string
		like         bool
	}{
		{`{"a": 1, "...": "..."}`, `{"a": 2, "b": 3}`, true},
		{`{"a": 1}`, `{"a": "1"}`, false},
		{`{"a": 1}`, `{"b": 1}`, false},
		{`{"status": 400}`, `{"status": 401}`, false},
		{`{"errors": [{"field": "a"}, {"field": "b"}]}`, `{"errors": [{"field": "b"}, {"field": "a"}]}`, true},
		{`{"errors": [{"field": "a"}]}`, `{"errors": []}`, false},
		{`{"a": null}`, `{"a": 1}`, true},
		{`{"a": [1]}`, `{"a": {}}`, false},
	} {
		if got := differs("", parse(c.page), parse(c.answer)); (got == "") != c.like {
			t.Errorf("%s and %s: %q", c.page, c.answer, got)
		}
	}
	blocks := docBlocks("# one\n```\ncurl x\n```\n## two\n```json\n{}\n```\n")
	if len(blocks) != 2 || blocks[0] != (docBlock{"# one", "", "curl x\n"}) || blocks[1] != (docBlock{"## two", "json", "{}\n"}) {
		t.Errorf("%+v", blocks)
	}
}
