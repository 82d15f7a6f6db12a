// One executable is OPA's own command line and, started under the name `opa-judge`, a judge for other engines of Rego
// that links OPA as a library. They share the library, so one of them costs little more than both.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/open-policy-agent/opa/cmd"
	"github.com/open-policy-agent/opa/v1/ast"
)

const usage = `opa-judge asks OPA what Rego programs answer, and how long it takes.

  opa-judge eval
      Reads lines of JSON, one program each, and writes a line of JSON for each, in the same order:
        {"id": ANY, "modules": {NAME: TEXT}, "data": OBJECT, "input": ANY, "query": TEXT}
      "data" and "input" may be left out; without "input" it is undefined. The answer is one of
        {"id": ANY, "result": VALUE}
        {"id": ANY, "undefined": true}
        {"id": ANY, "error": TEXT, "stage": "load" or "evaluation"}
      VALUE has sorted keys, sets as sorted arrays, whole numbers in plain digits, and no spaces, so equal answers are
      equal texts. A query with several answers is an error.

  opa-judge bench --policies FOLDER --query TEXT --input FILE [--iterations N] [--warm-up N]
      Loads the folder as a bundle (without *_test.rego), prepares the query, then does N times: JSON text in,
      evaluation, JSON text out. Prints
        {"iterations", "p10_ns", "p50_ns", "mean_ns", "per_second", "processors", "opa", "answer"}
      The warm-up is not in the figures, garbage collection is. Pin it to a core with taskset to measure one core.

      --iterations N   how often it is measured (20000)
      --warm-up N      how often it runs before (2000)

Rego is of version 1. Errors of built-in functions make an expression undefined, which is OPA's default. Functions that
reach a network, the machine or chance (http.send, net.lookup_ip_addr, opa.runtime, rand.intn, uuid.rfc4122) are unknown.
`

// Functions whose answer depends on more than their arguments. The clock stays, since tests replace it.
var outside = map[string]bool{
	"http.send":          true,
	"net.lookup_ip_addr": true,
	"opa.runtime":        true,
	"rand.intn":          true,
	"uuid.rfc4122":       true,
}

// What programs may use: everything of this version of OPA but what is outside.
func capabilities() *ast.Capabilities {
	allowed := ast.CapabilitiesForThisVersion()
	kept := allowed.Builtins[:0]
	for _, builtin := range allowed.Builtins {
		if !outside[builtin.Name] {
			kept = append(kept, builtin)
		}
	}
	allowed.Builtins = kept
	allowed.AllowNet = []string{} // an empty list allows nothing, a missing one everything
	return allowed
}

func judge(arguments []string, in io.Reader, out io.Writer) error {
	if len(arguments) == 0 {
		return errors.New("say `eval` or `bench`; --help tells more")
	}
	switch arguments[0] {
	case "eval":
		if len(arguments) > 1 {
			return fmt.Errorf("eval takes no arguments, and there is %q", arguments[1])
		}
		return evalLines(in, out)
	case "bench":
		return bench(arguments[1:], out)
	case "help", "--help", "-h":
		_, err := io.WriteString(out, usage)
		return err
	default:
		return fmt.Errorf("%q is neither `eval` nor `bench`; --help tells more", arguments[0])
	}
}

func main() {
	if filepath.Base(os.Args[0]) == "opa-judge" {
		if err := judge(os.Args[1:], os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "opa-judge:", err)
			os.Exit(2)
		}
		return
	}
	if err := cmd.Command(nil, "OPA").Execute(); err != nil {
		var exit *cmd.ExitError
		if errors.As(err, &exit) {
			os.Exit(exit.Exit)
		}
		os.Exit(1)
	}
}
