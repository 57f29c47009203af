package bytesize

import "testing"

func TestBytes(t *testing.T) {
	for text, want := range map[string]Bytes{
		"0": 0, "7": 7, "7B": 7, "2GiB": 2 << 30, "2gib": 2 << 30, "512 MiB": 512 << 20, "1TB": 1e12, "3kB": 3000,
	} {
		var b Bytes
		if err := b.UnmarshalText([]byte(text)); err != nil || b != want {
			t.Errorf("%q: %d, %v", text, b, err)
		}
		var again Bytes
		if err := again.UnmarshalText([]byte(b.String())); err != nil || again != b {
			t.Errorf("%q prints as %q: %d, %v", text, b, again, err)
		}
	}
	for _, text := range []string{"", "GiB", "-1", "1.5GiB", "1XB", "9999999999GiB", "1 2"} {
		var b Bytes
		if err := b.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q accepted: %d", text, b)
		}
	}
}
