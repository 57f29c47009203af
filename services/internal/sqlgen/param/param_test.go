package param

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestValuesTravelBesideTheText(t *testing.T) {
	s := Set{}
	got := []string{
		s.Text("a", "it's\ta\\b\n\x00"),
		s.Texts("b", []string{"it's", `a\b`, ""}),
		s.Texts("c", nil),
		s.Int("d", -5),
		s.Int("d", -5), // the same again is the same parameter
	}
	if d := cmp.Diff(got, []string{"{a:String}", "{b:Array(String)}", "{c:Array(String)}", "{d:Int64}", "{d:Int64}"}); d != "" {
		t.Errorf("placeholders (-got +want)\n%s", d)
	}
	want := Set{"a": `it's\ta\\b\n\0`, "b": `['it\'s','a\\b','']`, "c": "[]", "d": "-5"}
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
