package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/util"
)

// A program that runs longer has no answer.
const limit = 10 * time.Second

type program struct {
	ID      json.RawMessage   `json:"id"`
	Modules map[string]string `json:"modules"`
	Data    json.RawMessage   `json:"data"`
	Input   json.RawMessage   `json:"input"`
	Query   string            `json:"query"`
}

type verdict struct {
	ID        json.RawMessage `json:"id"`
	Result    json.RawMessage `json:"result,omitempty"`
	Undefined bool            `json:"undefined,omitempty"`
	Error     string          `json:"error,omitempty"`
	Stage     string          `json:"stage,omitempty"`
}

func evalLines(in io.Reader, out io.Writer) error {
	reader := bufio.NewReader(in)
	writer := bufio.NewWriter(out)
	encoder := json.NewEncoder(writer)
	encoder.SetEscapeHTML(false)
	for number := 1; ; number++ {
		line, err := reader.ReadBytes('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if len(line) > 0 {
			var asked program
			if err := json.Unmarshal(line, &asked); err != nil {
				return fmt.Errorf("line %d: %w", number, err)
			}
			if err := encoder.Encode(answer(&asked)); err != nil {
				return err
			}
			// Whoever asks may wait for this answer before it asks again.
			if err := writer.Flush(); err != nil {
				return err
			}
		}
		if err != nil {
			return nil
		}
	}
}

func answer(asked *program) verdict {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	query, err := prepare(ctx, asked)
	if err != nil {
		return verdict{ID: asked.ID, Error: err.Error(), Stage: "load"}
	}
	result, err := evaluate(ctx, query, asked.Input)
	if err != nil {
		return verdict{ID: asked.ID, Error: err.Error(), Stage: "evaluation"}
	}
	return verdict{ID: asked.ID, Result: result, Undefined: result == nil}
}

func prepare(ctx context.Context, asked *program) (rego.PreparedEvalQuery, error) {
	data := map[string]any{}
	if len(asked.Data) > 0 {
		if err := util.UnmarshalJSON(asked.Data, &data); err != nil {
			return rego.PreparedEvalQuery{}, fmt.Errorf("data: %w", err)
		}
	}
	options := []func(*rego.Rego){
		rego.Query(asked.Query),
		rego.SetRegoVersion(ast.RegoV1),
		rego.Capabilities(capabilities()),
		rego.Store(inmem.NewFromObject(data)),
	}
	for name, text := range asked.Modules {
		options = append(options, rego.Module(name, text))
	}
	return rego.New(options...).PrepareForEval(ctx)
}

// The only answer as canonical JSON, or nothing if the query is undefined.
func evaluate(ctx context.Context, query rego.PreparedEvalQuery, input json.RawMessage) (json.RawMessage, error) {
	options := []rego.EvalOption{rego.EvalSortSets(true)}
	if len(input) > 0 {
		var value any
		if err := util.UnmarshalJSON(input, &value); err != nil {
			return nil, fmt.Errorf("input: %w", err)
		}
		options = append(options, rego.EvalInput(value))
	}
	results, err := query.Eval(ctx, options...)
	if err != nil || len(results) == 0 {
		return nil, err
	}
	if len(results) > 1 || len(results[0].Expressions) != 1 {
		return nil, fmt.Errorf("the query has %d answers of %d expressions", len(results), len(results[0].Expressions))
	}
	return canonical(nil, results[0].Expressions[0].Value)
}
