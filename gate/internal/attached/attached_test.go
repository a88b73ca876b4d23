package attached

import (
	"encoding/json"
	"testing"
)

const envelope = `{"payloadType":"application/vnd.in-toto+json","payload":"e30=","signatures":[{"keyid":"","sig":"AAAA"}]}`

// What goes around an envelope makes the same bundle as reading it does.
func TestAroundIsWhatBundleSays(t *testing.T) {
	whole, err := Bundle([]byte(envelope), nil)
	if err != nil {
		t.Fatal(err)
	}
	before, after, err := Around(nil)
	if err != nil {
		t.Fatal(err)
	}
	var a, b map[string]any
	if json.Unmarshal(whole, &a) != nil || json.Unmarshal(append(append(before, envelope...), after...), &b) != nil {
		t.Fatalf("%s, %s", whole, before)
	}
	for _, member := range []string{"mediaType", "verificationMaterial"} {
		x, _ := json.Marshal(a[member])
		y, _ := json.Marshal(b[member])
		if string(x) != string(y) {
			t.Errorf("%s: %s, %s", member, x, y)
		}
	}
	if b["dsseEnvelope"].(map[string]any)["payload"] != a["dsseEnvelope"].(map[string]any)["payload"] {
		t.Errorf("%v, %v", a, b)
	}
}

// Whatever is attached becomes a bundle that is JSON, always the same, or an error.
func FuzzBundle(f *testing.F) {
	f.Add([]byte(envelope), "", "", "", "")
	f.Add([]byte(`{}`), "-----BEGIN CERTIFICATE-----\n", "x", `{"SignedEntryTimestamp":"","Payload":{"body":"e30=","integratedTime":1,"logIndex":1,"logID":"aa"}}`, `{"SignedRFC3161Timestamp":"AAAA"}`)
	f.Fuzz(func(t *testing.T, envelope []byte, certificate, chain, entry, timestamp string) {
		annotations := map[string]string{certificateAnnotation: certificate, chainAnnotation: chain, entryAnnotation: entry, timestampAnnotation: timestamp}
		first, err := Bundle(envelope, annotations)
		again, errAgain := Bundle(envelope, annotations)
		if (err == nil) != (errAgain == nil) || string(first) != string(again) {
			t.Errorf("%s, %v; again %s, %v", first, err, again, errAgain)
		}
		if err == nil && !json.Valid(first) {
			t.Errorf("%s", first)
		}
	})
}
