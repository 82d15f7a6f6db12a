package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/loader"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/version"
)

type figures struct {
	Iterations int             `json:"iterations"`
	P10        int64           `json:"p10_ns"`
	P50        int64           `json:"p50_ns"`
	Mean       int64           `json:"mean_ns"`
	PerSecond  float64         `json:"per_second"`
	Processors int             `json:"processors"`
	OPA        string          `json:"opa"`
	Answer     json.RawMessage `json:"answer"`
}

func bench(arguments []string, out io.Writer) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	policies := flags.String("policies", "", "")
	query := flags.String("query", "", "")
	input := flags.String("input", "", "")
	iterations := flags.Int("iterations", 20_000, "")
	warmUp := flags.Int("warm-up", 2_000, "")
	if err := flags.Parse(arguments); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			_, err = io.WriteString(out, usage)
		}
		return err
	}
	if *policies == "" || *query == "" || *input == "" || *iterations < 1 || *warmUp < 0 || flags.NArg() > 0 {
		return errors.New("bench needs --policies, --query, --input and at least one iteration; --help tells more")
	}
	text, err := os.ReadFile(*input)
	if err != nil {
		return err
	}
	prepared, err := bundled(*policies, *query)
	if err != nil {
		return err
	}
	measured, err := measure(prepared, text, *iterations, *warmUp)
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(measured)
}

// The query over all policies of the folder, prepared as a program that embeds OPA would.
func bundled(folder, query string) (rego.PreparedEvalQuery, error) {
	bundle, err := loader.NewFileLoader().
		WithRegoVersion(ast.RegoV1).
		WithSkipBundleVerification(true).
		WithFilter(func(_ string, info fs.FileInfo, _ int) bool {
			return strings.HasSuffix(info.Name(), "_test.rego")
		}).
		AsBundle(folder)
	if err != nil {
		return rego.PreparedEvalQuery{}, err
	}
	return rego.New(
		rego.Query(query),
		rego.SetRegoVersion(ast.RegoV1),
		rego.Capabilities(capabilities()),
		// The fastest store that OPA has: data is not converted again at each read.
		rego.StoreReadAST(true),
		rego.ParsedBundle("policies", bundle),
	).PrepareForEval(context.Background())
}

// One decision: JSON text in, JSON text out.
func decide(query rego.PreparedEvalQuery, text []byte) ([]byte, error) {
	input, err := ast.ValueFromReader(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	results, err := query.Eval(context.Background(), rego.EvalParsedInput(input))
	if err != nil {
		return nil, err
	}
	if len(results) != 1 || len(results[0].Expressions) != 1 {
		return nil, fmt.Errorf("the query has %d answers, so there is nothing to measure", len(results))
	}
	return json.Marshal(results[0].Expressions[0].Value)
}

func measure(query rego.PreparedEvalQuery, text []byte, iterations, warmUp int) (*figures, error) {
	answer, err := decide(query, text)
	for range warmUp {
		if err == nil {
			answer, err = decide(query, text)
		}
	}
	if err != nil {
		return nil, err
	}
	took := make([]int64, iterations)
	runtime.GC() // what the warm-up left is not charged to the first iterations
	began := time.Now()
	for i := range took {
		start := time.Now()
		if _, err := decide(query, text); err != nil {
			return nil, err
		}
		took[i] = time.Since(start).Nanoseconds()
	}
	total := time.Since(began)
	slices.Sort(took)
	return &figures{
		Iterations: iterations,
		P10:        took[iterations/10],
		P50:        took[iterations/2],
		Mean:       total.Nanoseconds() / int64(iterations),
		PerSecond:  float64(iterations) / total.Seconds(),
		Processors: runtime.GOMAXPROCS(0),
		OPA:        version.Version,
		Answer:     answer,
	}, nil
}
