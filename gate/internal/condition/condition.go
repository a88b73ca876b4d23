// Package condition compiles and evaluates what a policy asks of an attestation's
// content, in CEL (https://cel.dev), the language of Kubernetes and Kyverno.
//
// The expression is the policy's and trusted; the content is not. Work and memory are
// bounded by cel-go's cost: each step costs, and so does each byte that a string
// function reads or makes. The functions that make much out of little before they can
// be charged for it are not to be had.
package condition

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"countersign/gate/internal/bounded"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"cel.dev/cel-go/ext"
)

const (
	// MaxSize bounds an expression, in characters.
	MaxSize = 8192
	// MaxCost bounds an evaluation: some 50 ms of a processor, and 10 MB of text made.
	MaxCost = 1_000_000

	checkEvery = 256 // iterations, for a deadline that ends
	maxDepth   = 64  // of an expression
	maxError   = 300 // bytes of what is said of one
)

// Input is what an expression can name.
type Input struct {
	PredicateType string
	Predicate     any              // as Decode gives it
	Subject       []map[string]any // name and digest
	Repository    string           // of the image
	Digest        string           // of the manifest or index that the attestation is for
}

// Condition is a compiled expression. Any number of goroutines may share it.
type Condition struct {
	program cel.Program
}

// ErrFalse says that an expression was evaluated, and does not hold.
var ErrFalse = errors.New("the condition is false")

// amplifiers are functions whose result can be as large as the product of what they
// are given.
var amplifiers = []string{"replace", "join"}

var environment = sync.OnceValues(func() (*cel.Env, error) {
	return cel.NewEnv(
		cel.Variable("predicate", cel.DynType),
		cel.Variable("predicateType", cel.StringType),
		cel.Variable("subject", cel.ListType(cel.MapType(cel.StringType, cel.DynType))),
		cel.Variable("image", cel.MapType(cel.StringType, cel.StringType)),
		cel.OptionalTypes(), ext.Strings(), ext.Sets(),
		cel.ParserExpressionSizeLimit(MaxSize), cel.ParserRecursionLimit(maxDepth),
	)
})

// Compile reads an expression. An error says at which line and column what is wrong.
func Compile(text string) (*Condition, error) {
	env, err := environment()
	if err != nil {
		return nil, err
	}
	if strings.TrimSpace(text) == "" {
		return nil, errors.New("empty")
	}
	checked, issues := env.Compile(text)
	if issues.Err() != nil {
		return nil, explain(issues)
	}
	if t := checked.OutputType(); !t.IsExactType(cel.BoolType) && !t.IsExactType(cel.DynType) {
		return nil, fmt.Errorf("it gives a value of type %s, not true or false", t)
	}
	if name := amplifier(checked); name != "" {
		return nil, fmt.Errorf("it calls %s, which is not to be had here: its result can be far larger than what it is given", name)
	}
	program, err := env.Program(checked, cel.CostLimit(MaxCost), cel.CostTracking(unresolved{}), cel.InterruptCheckFrequency(checkEvery))
	if err != nil {
		return nil, err
	}
	return &Condition{program}, nil
}

// explain gives the first error of a compilation with its place in the expression.
func explain(issues *cel.Issues) error {
	found := issues.Errors()
	if len(found) == 0 {
		return issues.Err()
	}
	first, more := found[0], ""
	if n := len(found) - 1; n > 0 {
		more = fmt.Sprintf(" (and %d more)", n)
	}
	return fmt.Errorf("line %d, column %d: %s%s", first.Location.Line(), first.Location.Column()+1, bounded.Text(first.Message, maxError), more)
}

func amplifier(checked *cel.Ast) string {
	for _, call := range ast.MatchDescendants(ast.NavigateAST(checked.NativeRep()), ast.KindMatcher(ast.CallKind)) {
		if name := call.AsCall().FunctionName(); slices.Contains(amplifiers, name) {
			return name
		}
	}
	return ""
}

// unresolved charges for calls of which the compiler has not known the types: cel-go
// takes those for one step, whatever they read and make. The content has no types.
type unresolved struct{}

const bytesAStep = 10 // as cel-go charges for strings

// CallCost implements cost.ActualCostEstimator.
func (unresolved) CallCost(_, overload string, args []ref.Val, result ref.Val) *uint64 {
	if overload != "" {
		return nil // cel-go knows better
	}
	total := uint64(0)
	for _, value := range append(slices.Clone(args), result) {
		if sized, ok := value.(traits.Sizer); ok {
			if n, ok := sized.Size().(types.Int); ok {
				total += uint64(n)
			}
		}
	}
	total = 1 + total/bytesAStep
	return &total
}

// Holds returns nil where the condition is true of the input, ErrFalse where it is
// false, and otherwise why it could not be told: an expression that fails, or costs too
// much, allows nothing.
func (c *Condition) Holds(ctx context.Context, in Input) error {
	result, _, err := c.program.ContextEval(ctx, map[string]any{
		"predicate":     in.Predicate,
		"predicateType": in.PredicateType,
		"subject":       in.Subject,
		"image":         map[string]string{"repository": in.Repository, "digest": in.Digest},
	})
	switch {
	case err != nil && strings.Contains(err.Error(), "cost limit exceeded"):
		return fmt.Errorf("the condition costs more than %d: %s", MaxCost, bounded.Text(err.Error(), maxError))
	case err != nil:
		return fmt.Errorf("the condition fails: %s", bounded.Text(err.Error(), maxError))
	case result == types.False:
		return ErrFalse
	case result != types.True:
		return fmt.Errorf("the condition gives a value of type %s, not true or false", result.Type().TypeName())
	}
	return nil
}
