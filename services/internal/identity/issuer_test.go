package identity

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
)

var someone = Identity{
	UserUUID: "u1", CustomerUUID: "c1", Name: "Jack", Role: RoleScanner,
	BusinessUnits: []string{"EU"}, Tier: TierExpress, ViewAll: true,
}

func TestMintedTokensVerify(t *testing.T) {
	iss, err := OpenIssuer(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	v, err := NewVerifier(iss.Config(), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	plain := Identity{UserUUID: "u1", CustomerUUID: "c1", Role: RoleReader, Tier: TierStandard}
	withoutTier := plain
	withoutTier.Tier = ""
	for _, c := range []struct{ mint, want Identity }{{someone, someone}, {plain, plain}, {withoutTier, plain}} {
		token, err := iss.Mint(c.mint, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		got, err := v.Verify(t.Context(), token)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(got, c.want); d != "" {
			t.Errorf("(-got +want)\n%s", d)
		}
	}
	other, err := OpenIssuer(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	token, err := other.Mint(someone, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Verify(t.Context(), token); err == nil {
		t.Error("another installation's token is accepted")
	}
}

func TestMintRefusesWhatWouldBeRefused(t *testing.T) {
	iss, err := OpenIssuer(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for name, edit := range map[string]func(*Identity){
		"role":     func(id *Identity) { id.Role = "Root" },
		"tier":     func(id *Identity) { id.Tier = "Gold" },
		"user":     func(id *Identity) { id.UserUUID = "" },
		"customer": func(id *Identity) { id.CustomerUUID = strings.Repeat("x", 65) },
		"units":    func(id *Identity) { id.BusinessUnits = make([]string, maxToken) },
	} {
		id := someone
		edit(&id)
		if _, err := iss.Mint(id, time.Minute); err == nil {
			t.Errorf("%s: minted", name)
		}
	}
	if _, err := iss.Mint(someone, 0); err == nil {
		t.Error("minted a token that has expired")
	}
}

func TestIssuersOfOneFolderShareTheKey(t *testing.T) {
	dir := t.TempDir()
	issuers := make([]*Issuer, 8)
	var wg sync.WaitGroup
	for i := range issuers {
		wg.Go(func() {
			iss, err := OpenIssuer(dir)
			if err != nil {
				t.Error(err)
			}
			issuers[i] = iss
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	v, err := NewVerifier(issuers[0].Config(), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	for _, iss := range issuers {
		token, err := iss.Mint(someone, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.Verify(t.Context(), token); err != nil {
			t.Error(err)
		}
	}
	files, err := os.ReadDir(filepath.Join(dir, "dev"))
	if err != nil {
		t.Fatal(err)
	}
	modes := map[string]string{}
	for _, f := range files {
		info, err := f.Info()
		if err != nil {
			t.Fatal(err)
		}
		modes[f.Name()] = info.Mode().String()
	}
	if d := cmp.Diff(modes, map[string]string{"token-key.pem": "-rw-------", "jwks.json": "-rw-r--r--"}); d != "" {
		t.Errorf("files (-got +want)\n%s", d)
	}
	if err := os.WriteFile(filepath.Join(dir, "dev", "token-key.pem"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenIssuer(dir); err == nil {
		t.Error("a broken key file is accepted, or replaced")
	}
}
