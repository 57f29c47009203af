package report

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// manifestOf is the manifest of a file of these parts, each of as many rows as
// it has lines.
func manifestOf(parts ...string) *Manifest {
	m := &Manifest{ReportID: 17, Format: CSV, Compression: None}
	var sum Sum
	for _, p := range parts {
		before := sum
		var err error
		if sum, err = before.After([]byte(p)); err != nil {
			panic(err)
		}
		m.Parts = append(m.Parts, Part{Bytes: int64(len(p)), Rows: int64(strings.Count(p, "\n")), SHA256: hexOf(sum), Before: before})
		m.Bytes += int64(len(p))
		m.Rows += int64(strings.Count(p, "\n"))
	}
	whole := sha256.Sum256([]byte(strings.Join(parts, "")))
	m.SHA256 = hex.EncodeToString(whole[:])
	return m
}

func hexOf(s Sum) string {
	sum, err := s.Hex()
	if err != nil {
		panic(err)
	}
	return sum
}

func TestCheck(t *testing.T) {
	t.Parallel()
	parts := []string{"head", "one\ntwo\n", "three\n", "four\nfive\n"}
	good := strings.Join(parts, "")
	for name, c := range map[string]struct {
		file string
		want []string // empty: it is the file
	}{
		"as it was":              {good, nil},
		"one byte changed":       {strings.Replace(good, "three", "thrEe", 1), []string{"part 3 of 4 differs: bytes 12 to 17, 1 rows"}},
		"two parts changed":      {strings.NewReplacer("two", "2wo", "five", "5ive").Replace(good), []string{"part 2 of 4 differs: bytes 4 to 11, 2 rows", "part 4 of 4 differs: bytes 18 to 27, 2 rows"}},
		"parts changed places":   {"head" + "three\n" + "one\ntwo\n" + "four\nfive\n", []string{"part 2 of 4", "part 3 of 4"}},
		"cut within a part":      {good[:14], []string{"it ends after 14 bytes, within part 3 of 4: 14 bytes are missing"}},
		"cut between parts":      {good[:12], []string{"it ends after 12 bytes, within part 3 of 4: 16 bytes are missing"}},
		"the last byte is gone":  {good[:27], []string{"1 bytes are missing"}},
		"empty":                  {"", []string{"it ends after 0 bytes, within part 1 of 4: 28 bytes are missing"}},
		"a byte more":            {good + "\n", []string{"it is longer than its 28 bytes"}},
		"a byte put in between":  {good[:5] + "x" + good[5:], []string{"part 2 of 4", "part 3 of 4", "part 4 of 4", "longer"}},
		"changed and then short": {"Head" + good[4:20], []string{"part 1 of 4 differs: bytes 0 to 3", "8 bytes are missing"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// However the bytes come.
			for _, r := range []io.Reader{strings.NewReader(c.file), iotest.OneByteReader(strings.NewReader(c.file)), iotest.DataErrReader(strings.NewReader(c.file))} {
				err := manifestOf(parts...).Check(r)
				if len(c.want) == 0 {
					if err != nil {
						t.Error(err)
					}
					continue
				}
				if !errors.Is(err, ErrDiffers) {
					t.Fatalf("got %v, want that it differs", err)
				}
				lines := strings.Split(err.Error(), "\n")[1:]
				if len(lines) != len(c.want) {
					t.Errorf("got %q, want %q", lines, c.want)
					continue
				}
				for i, want := range c.want {
					if !strings.Contains(lines[i], want) {
						t.Errorf("got %q, want %q", lines[i], want)
					}
				}
			}
		})
	}
}

func TestCheckOfWhatIsNotTheFile(t *testing.T) {
	t.Parallel()
	broken := errors.New("the disk is broken")
	m := manifestOf("head", "one\n")
	if err := m.Check(io.MultiReader(strings.NewReader("hea"), iotest.ErrReader(broken))); !errors.Is(err, broken) || errors.Is(err, ErrDiffers) {
		t.Errorf("got %v, want the reader's error and no word of the file", err)
	}
	if err := m.Check(io.MultiReader(strings.NewReader("headone\n"), iotest.ErrReader(broken))); !errors.Is(err, broken) {
		t.Errorf("behind its last byte: got %v, want the reader's error", err)
	}
	m.Parts[1].Before = Sum("x")
	if err := m.Check(strings.NewReader("headone\n")); err != nil {
		t.Errorf("nobody needs what is before a part when the part before it is right: %v", err)
	}
	if err := m.Check(strings.NewReader("Headone\n")); err == nil || !strings.Contains(err.Error(), "part 2") {
		t.Errorf("got %v, want part 2 of the manifest blamed", err)
	}
	for _, c := range []Compression{Gzip, Zstd} {
		m := manifestOf("\x1f\x8b........", "........")
		if c == Zstd {
			m = manifestOf("\x28\xb5\x2f\xfd........", "........")
		}
		m.Compression = c
		if err := m.Check(strings.NewReader("Id,Action\r\n")); err == nil || !strings.Contains(err.Error(), "as it was downloaded") {
			t.Errorf("an unpacked %s: got %v", c, err)
		}
	}
	if err := manifestOf().Check(strings.NewReader("")); err != nil {
		t.Errorf("a report without rows: %v", err)
	}
}

func TestReadManifest(t *testing.T) {
	t.Parallel()
	edit := func(f func(m *Manifest)) string {
		m := manifestOf("head", "one\n", "two\n")
		f(m)
		raw, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	for name, c := range map[string]struct{ text, want string }{
		"good":                {edit(func(*Manifest) {}), ""},
		"no JSON":             {"<html>", "no manifest"},
		"empty":               {"", "no manifest"},
		"an answer of errors": {`{"type":"about:blank","status":410,"title":"Gone"}`, "no manifest"},
		"a part is missing":   {edit(func(m *Manifest) { m.Parts = m.Parts[:2] }), "its parts have 8 bytes and 1 rows, it says 12 and 2"},
		"rows do not add up":  {edit(func(m *Manifest) { m.Parts[1].Rows++ }), "damaged"},
		"a negative length":   {edit(func(m *Manifest) { m.Parts[0].Bytes, m.Parts[1].Bytes = -4, 12 }), "part 1"},
		"no sum of a part":    {edit(func(m *Manifest) { m.Parts[1].SHA256 = "" }), "part 2"},
		"another sum":         {edit(func(m *Manifest) { m.SHA256 = strings.Repeat("00", sha256.Size) }), "last part"},
		"another sum of none": {edit(func(m *Manifest) { m.Parts, m.Bytes, m.Rows = nil, 0, 0 }), "last part"},
		"no state of a part":  {edit(func(m *Manifest) { m.Parts[1].Before = nil }), "part 2"},
		"one of the first":    {edit(func(m *Manifest) { m.Parts[0].Before = m.Parts[1].Before }), "part 1"},
		"another state":       {edit(func(m *Manifest) { m.Parts[2].Before = m.Parts[1].Before }), "part 3"},
		"half a state":        {edit(func(m *Manifest) { m.Parts[2].Before = m.Parts[2].Before[:9] }), "part 3"},
		"half a sum":          {edit(func(m *Manifest) { m.SHA256 = m.SHA256[:32] }), "sha256"},
		"too long":            {strings.Repeat(" ", maxManifest+1), "longer"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, err := ReadManifest(strings.NewReader(c.text))
			if c.want == "" {
				if err != nil || m.Check(bytes.NewReader([]byte("headone\ntwo\n"))) != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}
