package reporter

import (
	"bytes"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"io"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"pgregory.net/rapid"

	"github.com/auditrail/auditrail/services/internal/report"
)

// pieces hands b over in pieces that are cut anywhere.
func pieces(t *rapid.T, b []byte, to func([]byte) error) {
	for len(b) > 0 {
		n := rapid.IntRange(1, len(b)).Draw(t, "piece")
		if err := to(b[:n]); err != nil {
			t.Fatal(err)
		}
		b = b[n:]
	}
}

// TestRowsAreCounted holds the counters against readers of the formats, wherever
// the text is cut into pieces.
func TestRowsAreCounted(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var text bytes.Buffer
		w := csv.NewWriter(&text)
		w.UseCRLF = true
		cells := rapid.SliceOfN(rapid.SampledFrom([]string{"x", "a\nb", "\r\n", `"`, `""`, "a\"\n\"b", "\n\n", ","}), 1, 3)
		rows := rapid.SliceOfN(cells, 0, 20).Draw(rt, "rows")
		for _, r := range rows {
			if err := w.Write(r); err != nil {
				rt.Fatal(err)
			}
		}
		w.Flush()
		count := new(records)
		add := func(b []byte) error { count.add(b); return nil }
		pieces(rt, text.Bytes(), add)
		if count.rows() != int64(len(rows)) || !count.whole() {
			rt.Fatalf("%d rows of %d, whole %v: %q", count.rows(), len(rows), count.whole(), text.Bytes())
		}
		if len(rows) > 0 {
			count = new(records)
			pieces(rt, text.Bytes()[:text.Len()-1], add)
			if count.whole() || count.rows() >= int64(len(rows)) {
				rt.Fatalf("half a row passes: %q", text.Bytes())
			}
		}
	})
	count := new(lines)
	for _, piece := range []string{"", "{}\n{", "}", "\n", ""} {
		count.add([]byte(piece))
	}
	if count.rows() != 2 || !count.whole() {
		t.Error(count)
	}
	if count.add([]byte("{")); count.whole() {
		t.Error("half a line passes")
	}
}

// TestPartsAreOneFile holds that parts concatenate to what the formats' readers
// read, and that hashes are those of the bytes, over any number of parts.
func TestPartsAreOneFile(t *testing.T) {
	plain := map[report.Compression]func(io.Reader) (io.Reader, error){
		report.None: func(r io.Reader) (io.Reader, error) { return r, nil },
		report.Gzip: func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) },
		report.Zstd: func(r io.Reader) (io.Reader, error) { return zstd.NewReader(r) },
	}
	rapid.Check(t, func(rt *rapid.T) {
		z := rapid.SampledFrom([]report.Compression{report.None, report.Gzip, report.Zstd}).Draw(rt, "compression")
		var file, want bytes.Buffer
		var sum report.Sum
		for range rapid.IntRange(1, 4).Draw(rt, "parts") {
			body := bytes.Repeat([]byte("\"a\",1\r\n"), rapid.IntRange(0, 3000).Draw(rt, "rows"))
			want.Write(body)
			var object bytes.Buffer
			p, err := newPart(&object, report.CSV, z, sum)
			if err != nil {
				rt.Fatal(err)
			}
			pieces(rt, body, p.write)
			c, err := p.end()
			if err != nil {
				rt.Fatal(err)
			}
			file.Write(object.Bytes())
			sum = c.Sum
			whole := sha256.Sum256(file.Bytes())
			if got, err := sum.Hex(); err != nil || got != hex.EncodeToString(whole[:]) {
				rt.Fatalf("the running hash is not that of the file: %s, %v", got, err)
			}
			if c.Bytes != int64(object.Len()) || c.Rows != int64(bytes.Count(body, []byte("\n"))) || c.Offset != 0 {
				rt.Fatalf("%+v of %d bytes", c, object.Len())
			}
		}
		r, err := plain[z](&file)
		if err != nil {
			rt.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(got, want.Bytes()) {
			rt.Fatalf("%d bytes, want %d, %v", len(got), want.Len(), err)
		}
	})
	if _, err := newPart(nil, report.CSV, report.None, []byte("x")); err == nil {
		t.Error("a state of no hash is taken")
	}
}

// TestBadParquetIsRefused holds that what is cut off or no Parquet is told.
func TestBadParquetIsRefused(t *testing.T) {
	for name, body := range map[string]string{
		"empty": "", "no magic": "PAR2xxxxPAR1", "cut": "PAR1rows", "a footer that is longer than the file": "PAR1\xff\xff\x00\x00PAR1", "no footer": "PAR1ab\x02\x00\x00\x00PAR1",
	} {
		p, err := newPart(io.Discard, report.Parquet, report.None, nil)
		if err != nil {
			t.Fatal(err)
		}
		err = p.write([]byte(body))
		if err == nil {
			_, err = p.end()
		}
		if err == nil {
			t.Errorf("%s passes", name)
		}
	}
	if _, err := footer(nil, nil); err == nil {
		t.Error("a file of no chunks has no columns")
	}
}
