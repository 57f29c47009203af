package sqlgen

import (
	"math/rand/v2"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/auditrail/auditrail/services/internal/qql"
	"github.com/auditrail/auditrail/services/internal/store"
	"github.com/auditrail/auditrail/services/internal/testenv"
)

// TestFoldIsTheEngines holds qql.Fold and qql.Tokens to what the engine makes of
// every character, and of characters and broken bytes side by side.
func TestFoldIsTheEngines(t *testing.T) {
	var texts []string
	var odd []rune // where context or width might matter
	for r := rune(0); r <= unicode.MaxRune; r++ {
		if utf8.ValidRune(r) {
			texts = append(texts, string(r))
			if unicode.ToLower(r) != r || unicode.ToUpper(r) != r || unicode.Is(unicode.M, r) {
				odd = append(odd, r)
			}
		}
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 50_000 {
		var b []byte
		for range 1 + rnd.IntN(8) {
			switch rnd.IntN(5) {
			case 0:
				b = utf8.AppendRune(b, odd[rnd.IntN(len(odd))])
			case 1:
				b = append(b, byte(rnd.IntN(256)))
			case 2:
				b = append(b, [...]string{"Σ", "σ", "ς", "İ", "ß", "ſ", "\uFFFD", "K"}[rnd.IntN(8)]...)
			case 3:
				b = append(b, " -.'\x00aZ9"[rnd.IntN(8)])
			case 4:
				b = append(b, "\xe2\x82\xf0\x9f\x98\xed\xa0\x80\xc0\xaf\xf4\x90"[rnd.IntN(12)])
			}
		}
		texts = append(texts, string(b))
	}

	cfg := testenv.ClickHouse(t).Config()
	conn, err := store.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.Exec(t.Context(), "CREATE TABLE texts (n UInt64, text String) ENGINE = Memory"); err != nil {
		t.Fatal(err)
	}
	batch, err := conn.PrepareBatch(t.Context(), "INSERT INTO texts")
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range texts {
		if err := batch.Append(uint64(i), s); err != nil {
			t.Fatal(err)
		}
	}
	if err := batch.Send(); err != nil {
		t.Fatal(err)
	}
	rows, err := conn.Query(t.Context(), "SELECT n, "+folded("text")+", arrayStringConcat(tokens("+folded("text")+", 'splitByNonAlpha'), ' ') FROM texts")
	if err != nil {
		t.Fatal(err)
	}
	differ, n := 0, 0
	for rows.Next() {
		var i uint64
		var fold, tokens string
		if err := rows.Scan(&i, &fold, &tokens); err != nil {
			t.Fatal(err)
		}
		n++
		if want := qql.Fold(texts[i]); fold != want && differ < 1000 {
			differ++
			t.Errorf("%+q folds to %+q in the engine, %+q here", texts[i], fold, want)
		}
		if want := strings.Join(qql.Tokens(texts[i]), " "); tokens != want && differ < 1000 {
			differ++
			t.Errorf("%+q has the tokens %+q in the engine, %+q here", texts[i], tokens, want)
		}
	}
	if err := rows.Close(); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(n, len(texts)); d != "" {
		t.Errorf("texts compared (-got +want)\n%s", d)
	}
}
