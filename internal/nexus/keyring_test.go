package nexus_test

import (
	"encoding/base64"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

const jobA, jobB nexus.JobID = "0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210"

// keyText returns a key of 32 equal bytes in the form of the setting.
func keyText(fill string) string {
	return base64.StdEncoding.EncodeToString([]byte(strings.Repeat(fill, 32)))
}

func ring(t testing.TB, text string) *nexus.Keyring {
	t.Helper()
	k, err := nexus.ParseKeyring(nexus.Secret(text))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestSealRoundTrip(t *testing.T) {
	t.Parallel()
	k, _ := nexus.NewKeyring()
	rapid.Check(t, func(t *rapid.T) {
		plain := rapid.SliceOf(rapid.Byte()).Draw(t, "plain")
		job := nexus.JobID(rapid.StringMatching(`[0-9a-f]{32}`).Draw(t, "job"))
		purpose := rapid.SampledFrom([]nexus.Purpose{nexus.PurposeInput, nexus.PurposeCredentials}).Draw(t, "purpose")
		sealed, err := k.Seal(job, purpose, plain)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := k.Seal(job, purpose, plain); err != nil || again == sealed {
			t.Fatalf("sealed twice alike, %v", err)
		}
		opened, err := k.Open(job, purpose, sealed)
		if err != nil || !slices.Equal(opened, plain) {
			t.Fatalf("opened %q of %q, %v", opened, plain, err)
		}
	})
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	k := ring(t, "k1:"+keyText("a")+",k0:"+keyText("b"))
	sealed, err := k.Seal(jobA, nexus.PurposeInput, []byte(canary))
	if err != nil {
		t.Fatal(err)
	}
	_, box, _ := strings.Cut(sealed, ":")
	for _, tc := range []struct {
		name    string
		ring    *nexus.Keyring
		job     nexus.JobID
		purpose nexus.Purpose
		sealed  string
		want    nexus.Code
	}{
		{"another job", k, jobB, nexus.PurposeInput, sealed, nexus.Internal},
		{"another purpose", k, jobA, nexus.PurposeCredentials, sealed, nexus.Internal},
		{"job and purpose run together", k, jobA + "/input", "", sealed, nexus.Internal},
		{"another key under the same id", ring(t, "k1:"+keyText("c")), jobA, nexus.PurposeInput, sealed, nexus.Internal},
		{"another key of the ring", k, jobA, nexus.PurposeInput, "k0:" + box, nexus.Internal},
		{"an id nobody knows", k, jobA, nexus.PurposeInput, "k9:" + box, nexus.Unavailable},
		{"a ring without the key", ring(t, "k9:"+keyText("a")), jobA, nexus.PurposeInput, sealed, nexus.Unavailable},
		{"cut short", k, jobA, nexus.PurposeInput, sealed[:len(sealed)-4], nexus.Internal},
		{"shorter than a nonce", k, jobA, nexus.PurposeInput, "k1:AAAA", nexus.Internal},
		{"nothing but the id", k, jobA, nexus.PurposeInput, "k1:", nexus.Internal},
		{"not base64", k, jobA, nexus.PurposeInput, "k1:!!!!", nexus.Internal},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			plain, err := tc.ring.Open(tc.job, tc.purpose, tc.sealed)
			if nexus.CodeOf(err) != tc.want || plain != nil {
				t.Errorf("opened %q, %v; want %s", plain, err, tc.want)
			}
		})
	}
}

// TestOpenFlipped changes the sealed text at every position to every character of base64.
func TestOpenFlipped(t *testing.T) {
	t.Parallel()
	const signs = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	k := ring(t, "k1:"+keyText("a"))
	for _, plain := range []string{"", "a", "ab", canary} { // base64 has three kinds of ending
		sealed, err := k.Seal(jobA, nexus.PurposeInput, []byte(plain))
		if err != nil {
			t.Fatal(err)
		}
		for i := range sealed {
			for _, sign := range []byte(signs) {
				if sealed[i] == sign {
					continue
				}
				flipped := sealed[:i] + string(sign) + sealed[i+1:]
				if _, err := k.Open(jobA, nexus.PurposeInput, flipped); err == nil {
					t.Errorf("%s opens as well as %s", flipped, sealed)
				}
			}
		}
	}
}

func TestRotation(t *testing.T) {
	t.Parallel()
	before := ring(t, "k1:"+keyText("a"))
	after := ring(t, "k2:"+keyText("b")+", k1:"+keyText("a"))
	if before.ID() != "k1" || after.ID() != "k2" || !slices.Equal(after.IDs(), []string{"k2", "k1"}) || !after.Holds("k1") || after.Holds("k3") {
		t.Fatalf("%s, then %s of %v", before.ID(), after.ID(), after.IDs())
	}
	old, err := before.Seal(jobA, nexus.PurposeInput, []byte(canary))
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := after.Open(jobA, nexus.PurposeInput, old); err != nil || string(plain) != canary {
		t.Errorf("the old key reads %q, %v", plain, err)
	}
	fresh, err := after.Seal(jobA, nexus.PurposeInput, []byte(canary))
	if err != nil || !strings.HasPrefix(fresh, "k2:") {
		t.Errorf("written as %s, %v", fresh, err)
	}
	if _, err := before.Open(jobA, nexus.PurposeInput, fresh); nexus.CodeOf(err) != nexus.Unavailable {
		t.Errorf("a ring without the new key: %v", err)
	}
	if before.Claim("k1", jobA) != after.Claim("k1", jobA) {
		t.Error("a claim did not survive the rotation")
	}
	was, is := before.Fingerprints([]byte("text")), after.Fingerprints([]byte("text"))
	if len(was) != 1 || len(is) != 2 || was[0] != is[1] || !strings.HasPrefix(is[0], "k2=") {
		t.Errorf("fingerprints %v, then %v", was, is)
	}
	ids := after.IDs()
	if ids[0] = "changed"; after.ID() != "k2" {
		t.Error("IDs gives away the ring's own slice")
	}
}

func TestClaims(t *testing.T) {
	t.Parallel()
	k := ring(t, "k1:"+keyText("a")+",k2:"+keyText("b"))
	claim := k.Claim("k1", jobA)
	if claim != k.Claim("k1", jobA) || len(claim) != 64 {
		t.Errorf("the claim is %q", claim.Reveal())
	}
	for _, tc := range []struct {
		name  string
		keyID string
		job   nexus.JobID
		token nexus.Secret
		want  bool
	}{
		{"its own", "k1", jobA, claim, true},
		{"of another job", "k1", jobA, k.Claim("k1", jobB), false},
		{"of another key", "k1", jobA, k.Claim("k2", jobA), false},
		{"for another job", "k1", jobB, claim, false},
		{"for another key", "k2", jobA, claim, false},
		{"empty", "k1", jobA, "", false},
		{"capitals", "k1", jobA, nexus.Secret(strings.ToUpper(claim.Reveal())), false},
		{"a part of it", "k1", jobA, claim[:32], false},
		{"with more behind", "k1", jobA, claim + "0", false},
		{"the job's id", "k1", jobA, nexus.Secret(jobA), false},
		{"a fingerprint of the job", "k1", jobA, nexus.Secret(strings.TrimPrefix(k.Fingerprints([]byte(jobA))[0], "k1=")), false},
		{"of a key that is not held", "k3", jobA, k.Claim("k3", jobA), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if got := k.ClaimEqual(tc.keyID, tc.job, tc.token); got != tc.want {
				t.Errorf("equal: %t", got)
			}
		})
	}
}

func TestFingerprints(t *testing.T) {
	t.Parallel()
	k := ring(t, "k1:"+keyText("a"))
	if diff := cmp.Diff(k.Fingerprints([]byte(canary)), k.Fingerprints([]byte(canary))); diff != "" {
		t.Error(diff)
	}
	one := k.Fingerprints([]byte(canary))[0]
	if one == k.Fingerprints([]byte(canary + "x"))[0] || strings.Contains(one, canary) {
		t.Errorf("it tells too little or too much: %s", one)
	}
	if other := ring(t, "k1:"+keyText("b")).Fingerprints([]byte(canary))[0]; one == other {
		t.Error("it does not depend on the key")
	}
}

func TestBucket(t *testing.T) {
	t.Parallel()
	k := ring(t, "k1:"+keyText("a"))
	one := k.Bucket(canary)
	if one != k.Bucket(canary) || one == k.Bucket(canary+"x") || one == ring(t, "k1:"+keyText("b")).Bucket(canary) || strings.Contains(one, canary) {
		t.Errorf("the bucket is %q", one)
	}
	if strings.Contains(k.Fingerprints([]byte(canary))[0], one) {
		t.Error("a bucket tells a fingerprint")
	}
}

func TestParseKeyring(t *testing.T) {
	t.Parallel()
	key, long := keyText("a"), base64.StdEncoding.EncodeToString([]byte(strings.Repeat("a", 33)))
	for _, tc := range []struct {
		name, text string
		ids        []string // nil: refused
	}{
		{"one", "k1:" + key, []string{"k1"}},
		{"two with white space", " k2:" + key + " ,\n k1:" + key + "\n", []string{"k2", "k1"}},
		{"empty", "", nil},
		{"no id", ":" + key, nil},
		{"no colon", key, nil},
		{"the wrong way round", key + ":k1", nil},
		{"two keys for an id and a key", key + ":" + key, nil},
		{"too short", "k1:" + key[:40], nil},
		{"too long", "k1:" + long, nil},
		{"hexadecimal", "k1:" + strings.Repeat("ab", 32), nil},
		{"not base64", "k1:" + strings.Repeat("!", 43) + "=", nil},
		{"no key", "k1:", nil},
		{"an id twice", "k1:" + key + ",k1:" + keyText("b"), nil},
		{"a comma behind", "k1:" + key + ",", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			k, err := nexus.ParseKeyring(nexus.Secret(tc.text))
			if (err == nil) != (tc.ids != nil) {
				t.Fatalf("answered %v", err)
			}
			if err == nil {
				if diff := cmp.Diff(tc.ids, k.IDs()); diff != "" {
					t.Error(diff)
				}
				return
			}
			for part := range strings.FieldsFuncSeq(tc.text, func(r rune) bool { return strings.ContainsRune(":, \n", r) }) {
				if len(part) > 8 && strings.Contains(err.Error(), part) {
					t.Errorf("the key is in %q", err)
				}
			}
		})
	}
}

func TestNewKeyring(t *testing.T) {
	t.Parallel()
	k, text := nexus.NewKeyring()
	sealed, err := k.Seal(jobA, nexus.PurposeInput, []byte(canary))
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := ring(t, text.Reveal()).Open(jobA, nexus.PurposeInput, sealed); err != nil || string(plain) != canary {
		t.Errorf("its text makes another ring: %q, %v", plain, err)
	}
	if _, other := nexus.NewKeyring(); other == text {
		t.Error("two rings are alike")
	}
}
