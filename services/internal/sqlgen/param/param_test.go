package param

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

func TestValuesTravelBesideTheText(t *testing.T) {
	s := Set{}
	got := []string{
		s.Text("a", "it's\ta\\b\n\x00"),
		s.Texts("b", []string{"it's", `a\b`, ""}),
		s.Texts("c", nil),
		s.Int("d", -5),
		s.Uint("e", 1<<64-1),
		s.Uints("f", []uint64{0, 7}),
		s.Ints("g", []int64{-1, 1}),
		s.UUIDs("h", []uuid.UUID{uuid.Max}),
		s.Addresses("i", []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("::1")}),
		s.IntLists("j", [][]int64{nil, {1, -2}}),
		s.Int("d", -5), // the same again is the same parameter
	}
	if d := cmp.Diff(got, []string{"{a:String}", "{b:Array(String)}", "{c:Array(String)}", "{d:Int64}",
		"{e:UInt64}", "{f:Array(UInt64)}", "{g:Array(Int64)}", "{h:Array(UUID)}", "{i:Array(IPv6)}", "{j:Array(Array(Int64))}", "{d:Int64}"}); d != "" {
		t.Errorf("placeholders (-got +want)\n%s", d)
	}
	want := Set{"a": `it's\ta\\b\n\0`, "b": `['it\'s','a\\b','']`, "c": "[]", "d": "-5",
		"e": "18446744073709551615", "f": "[0,7]", "g": "[-1,1]", "h": "['ffffffff-ffff-ffff-ffff-ffffffffffff']", "i": "['::ffff:10.0.0.1','::1']", "j": "[[],[1,-2]]"}
	if d := cmp.Diff(s, want); d != "" {
		t.Errorf("values (-got +want)\n%s", d)
	}
}

func TestTwoValuesForOneNamePanic(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("two values share a parameter")
		}
	}()
	s := Set{}
	s.Int("a", 1)
	s.Int("a", 2)
}
