package native

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/ClickHouse/ch-go/compress"
	"github.com/google/go-cmp/cmp"
)

// block builds plain blocks for tests.
type block []byte

func newBlock(columns, rows uint64) block {
	return appendUvarint(appendUvarint(nil, columns), rows)
}

func (b block) column(name, typ string, data ...byte) block {
	return append(appendString(appendString(b, name), typ), data...)
}

func u64(v ...uint64) (b []byte) {
	for _, x := range v {
		for i := range 8 {
			b = append(b, byte(x>>(8*i)))
		}
	}
	return b
}

func cat(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// blocks are plain blocks of every shape.
var blocks = map[string]block{
	"empty":    newBlock(0, 0),
	"header":   newBlock(2, 0).column("a", "UInt8").column("b", "Array(String)"),
	"fixed":    newBlock(3, 2).column("a", "UInt8", 1, 2).column("b", "Enum8('x, (' = 1, 'y\\'' = 2)", 1, 2).column("c", "Nothing", 0, 0),
	"strings":  newBlock(1, 3).column("s", "String", cat([]byte{0, 1, 'x'}, appendString(nil, strings.Repeat("long", 100)))...),
	"nullable": newBlock(1, 2).column("n", "Nullable(String)", 1, 0, 0, 1, 'v'),
	"array":    newBlock(1, 2).column("l", "Array(Array(UInt16))", cat(u64(1, 2), u64(2, 2), []byte{1, 0, 2, 0})...),
	"map":      newBlock(1, 1).column("m", "Map(String, UInt8)", cat(u64(1), []byte{1, 'k', 7})...),
	"tuple":    newBlock(1, 1).column("t", "Tuple(`a b` String, c Decimal(38, 2), Tuple(UInt8))", cat([]byte{1, 'x'}, make([]byte, 16), []byte{9})...),
	"dict": newBlock(1, 3).column("d", "LowCardinality(Nullable(String))",
		cat(u64(1), u64(0x600), u64(2), []byte{0, 1, 'v'}, u64(3), []byte{0, 1, 0})...),
	"empty dicts": newBlock(1, 2).column("d", "Array(LowCardinality(String))", cat(u64(1), u64(0, 0))...),
	"nested":      newBlock(1, 1).column("n", "Nested(a UInt8, b LowCardinality(String))", cat(u64(1), u64(1), []byte{5}, u64(0x600), u64(2), []byte{0, 1, 'v'}, u64(1), []byte{1})...),
	"json":        newBlock(1, 1).column("j", "JSON(max_dynamic_paths=0)", cat(u64(1), []byte{2, '{', '}'})...),
	"geo":         newBlock(1, 1).column("p", "Polygon", cat(u64(1), u64(1), make([]byte, 16))...),
	"misc": newBlock(4, 1).column("i", "IntervalDay", make([]byte, 8)...).column("f", "FixedString(3)", 1, 2, 3).
		column("a", "SimpleAggregateFunction(sum, UInt64)", make([]byte, 8)...).column("t", "DateTime64(3, 'Europe/Berlin')", make([]byte, 8)...),
}

func frame(t testing.TB, plain []byte, f Framing) []byte {
	t.Helper()
	var out bytes.Buffer
	in := Bytes(plain)
	if _, err := Frame(&out, &in, f); err != nil {
		t.Fatal(err)
	}
	if len(in) != 0 {
		t.Fatalf("%d bytes left over", len(in))
	}
	return out.Bytes()
}

// TestFrameAndBack: in any windows, framing and unframing is identity.
func TestFrameAndBack(t *testing.T) {
	for name, plain := range blocks {
		for _, f := range []Framing{{}, {CustomByte: true}} {
			framed := frame(t, plain, f)
			for _, size := range []int{16, 17, 64, 4096} {
				in := Buffered{bufio.NewReaderSize(oneByOne{append(bytes.Clone(framed), "next"...)}.reader(size), size)}
				var back bytes.Buffer
				if _, err := Unframe(&back, in, f); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				if diff := cmp.Diff([]byte(plain), back.Bytes()); diff != "" {
					t.Errorf("%s: (-plain +back)\n%s", name, diff)
				}
				if rest, _ := io.ReadAll(in); string(rest) != "next" {
					t.Errorf("%s: %q is left, want what follows the block", name, rest)
				}
			}
		}
	}
}

// oneByOne is a reader that gives few bytes at a time.
type oneByOne struct{ b []byte }

func (o oneByOne) reader(size int) io.Reader { return &stingy{o.b, size / 3} }

type stingy struct {
	b []byte
	n int
}

func (s *stingy) Read(p []byte) (int, error) {
	if len(s.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), s.n)], s.b)
	s.b = s.b[n:]
	return n, nil
}

func TestTypes(t *testing.T) {
	for _, name := range []string{
		"Dynamic", "Variant(UInt8, String)", "AggregateFunction(sum, UInt8)", "Array(Dynamic)", "Tuple(a Dynamic)", "", "Array()", "Array(", "Map(String)",
		"FixedString(0)", "FixedString(x)", "Decimal()", "Decimal(77)", "Nullable", strings.Repeat("Array(", 1000) + "UInt8" + strings.Repeat(")", 1000),
	} {
		err := CheckType(name)
		var u *UnsupportedTypeError
		if !errors.As(err, &u) {
			t.Errorf("%.40s: %v, want an UnsupportedTypeError", name, err)
		}
	}
	for _, name := range []string{"Enum8('a,)' = 1)", "Tuple(`x y` Array(Tuple(String, `z` UInt8)))", "DateTime('UTC')", "Tuple()", "MultiPolygon", "Decimal(76, 3)"} {
		if err := CheckType(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestLengthsAreNotBelieved: a block that announces much and holds nothing costs
// next to no memory.
func TestLengthsAreNotBelieved(t *testing.T) {
	huge := appendUvarint(nil, 1<<40)
	for name, b := range map[string][]byte{
		"columns": huge,
		"rows":    cat([]byte{1}, huge),
		"name":    cat([]byte{1, 1}, huge),
		"string":  newBlock(1, 1).column("s", "String", huge...),
		"fixed":   cat(appendUvarint([]byte{1}, 1<<31), block(nil).column("s", "FixedString(16777215)")),
		"array":   newBlock(1, 1).column("s", "Array(String)", u64(1<<62)...),
		"dict":    newBlock(1, 1).column("s", "LowCardinality(String)", cat(u64(1), u64(0x200), u64(1<<62))...),
	} {
		allocated := testing.AllocsPerRun(1, func() {
			in := Bytes(b)
			if _, err := Frame(io.Discard, &in, Framing{}); err == nil {
				t.Errorf("%s: no error", name)
			}
		})
		if allocated > 100 {
			t.Errorf("%s: %v allocations", name, allocated)
		}
	}
}

func TestFrames(t *testing.T) {
	data := bytes.Repeat([]byte("compressible "), 300_000)
	var packed bytes.Buffer
	w := NewFrameWriter(&packed)
	for _, part := range [][]byte{data[:10], data[10:2_500_000], data[2_500_000:]} {
		if _, err := w.Write(part); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	for _, method := range []compress.Method{compress.None, compress.LZ4, compress.LZ4HC, compress.ZSTD} {
		c := compress.NewWriter(0, method)
		if err := c.Compress(data); err != nil {
			t.Fatal(err)
		}
		packed.Write(c.Data)
	}
	r := NewFrameReader(bufio.NewReader(&packed))
	defer r.Close()
	for i := range 5 {
		got := make([]byte, 0, len(data))
		for len(got) < len(data) {
			b, err := r.Window()
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, b...)
			r.Consume(len(b))
		}
		if !bytes.Equal(got, data) || r.Rest() != 0 {
			t.Errorf("copy %d differs", i)
		}
		r.Shrink()
	}
}

func FuzzUnframe(f *testing.F) {
	for _, plain := range blocks {
		f.Add(frame(f, plain, Framing{CustomByte: true}), true)
		f.Add(frame(f, plain, Framing{}), false)
	}
	f.Fuzz(func(t *testing.T, framed []byte, custom bool) {
		f := Framing{CustomByte: custom}
		var plain bytes.Buffer
		if _, err := Unframe(&plain, Buffered{bufio.NewReaderSize(bytes.NewReader(framed), 64)}, f); err != nil {
			return
		}
		if plain.Len() > len(framed) {
			t.Fatalf("%d bytes became %d", len(framed), plain.Len())
		}
		// What was taken is a block, and there and back it stays the same.
		again := frame(t, plain.Bytes(), f)
		var back bytes.Buffer
		in := Bytes(again)
		if _, err := Unframe(&back, &in, f); err != nil || !bytes.Equal(back.Bytes(), plain.Bytes()) {
			t.Fatalf("%v: %x became %x", err, plain.Bytes(), back.Bytes())
		}
	})
}

func FuzzFrames(f *testing.F) {
	for _, method := range []compress.Method{compress.None, compress.LZ4, compress.ZSTD} {
		c := compress.NewWriter(0, method)
		if err := c.Compress([]byte("some data, some data")); err != nil {
			f.Fatal(err)
		}
		f.Add(bytes.Clone(c.Data), true)
	}
	f.Fuzz(func(_ *testing.T, packed []byte, sign bool) {
		if sign && len(packed) > frameHash {
			resign(packed)
		}
		r := NewFrameReader(bufio.NewReader(bytes.NewReader(packed)))
		defer r.Close()
		for {
			b, err := r.Window()
			if err != nil {
				return
			}
			r.Consume(len(b))
		}
	})
}

func FuzzParseType(f *testing.F) {
	for _, b := range []string{"Array(Tuple(a String, `b c` Map(String, Nullable(Decimal(3, 1)))))", "Enum8('a\\'' = 1)", "LowCardinality(Nullable(String))"} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if err := CheckType(name); err == nil && CheckType("Array("+name+")") != nil {
			t.Errorf("%q is a type, but not as an element", name)
		}
	})
}

// TestLongTypesAreNotKept: names of a megabyte must not fill the memory.
func TestLongTypesAreNotKept(t *testing.T) {
	name := "Enum8('" + strings.Repeat("x", maxCachedName) + "' = 1)"
	if err := CheckType(name); err != nil {
		t.Fatal(err)
	}
	typeCache.Lock()
	defer typeCache.Unlock()
	if typeCache.m[name] != nil {
		t.Error("a long name is in the cache")
	}
}
