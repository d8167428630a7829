package oms_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"

	"github.com/shardcast/shardcast/internal/oms"
)

func Example() {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	signature, err := oms.Sign(key, "llama", []oms.File{{Path: "config.json", Digest: sha256.Sum256([]byte("{}"))}})
	if err != nil {
		panic(err)
	}
	var of struct {
		MediaType string `json:"mediaType"`
	}
	fmt.Println(oms.FileName, json.Unmarshal(signature, &of), of.MediaType)
	// Output: model.sig <nil> application/vnd.dev.sigstore.bundle.v0.3+json
}
