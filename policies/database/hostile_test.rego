# Inputs that no schema would let through, as the command line may meet them: each is denied, none is an error.
package database.hostile_test

import rego.v1

import data.database.cost
import data.database.fixtures_test as fixtures

denied(other) if {
	violations := data.database.security.violations with input as other
	some violation in violations
	violation.action == "deny"
} else if {
	violations := data.database.governance.violations with input as other
	some violation in violations
	violation.action == "deny"
}

junk := [null, "text", [7], {"a": []}]

denied_without(paths) if {
	every path in paths {
		denied(fixtures.changed([fixtures.drop(path)]))
		every value in junk {
			denied(fixtures.changed([{"op": "replace", "path": path, "value": value}]))
		}
	}
}

test_object if denied_without([
	"/object",
	"/object/spec",
	"/object/spec/engine",
	"/object/spec/resources",
	"/object/spec/resources/limits",
	"/object/spec/resources/requests",
])

test_children if denied_without([
	"/children",
	"/children/1",
	"/children/1/kind",
	"/children/1/spec/template",
	"/children/1/spec/template/spec",
	"/children/1/spec/template/spec/containers",
])

test_containers if denied_without([
	"/children/1/spec/template/spec/containers/0",
	"/children/1/spec/template/spec/containers/0/image",
	"/children/1/spec/template/spec/containers/0/resources",
	"/children/1/spec/template/spec/containers/0/securityContext",
	"/children/1/spec/template/spec/securityContext",
])

test_norm if denied_without([
	"/norm",
	"/norm/requests",
	"/norm/limits",
	"/norm/version",
	"/norm/backup",
	"/norm/images",
	"/norm/images/0",
])

test_settings if denied_without([
	"/settings",
	"/settings/allow",
	"/settings/allow/engines",
	"/settings/allow/registries",
])

# A list of a wrong type never hides what the other rules see.
test_lists_of_the_pod if {
	bad := fixtures.put(fixtures.in_pod("hostPID"), true)
	every field in ["initContainers", "volumes", "containers/0/ports", "containers/0/securityContext/capabilities/add"] {
		every value in junk {
			denied(fixtures.changed([bad, fixtures.put(fixtures.in_pod(field), value)]))
		}
	}
}

# Warnings are asked for too, though they refuse nothing: they must not be errors either.
test_cost_has_nothing_to_say if {
	every value in junk {
		cost.violations == set() with input as value
		cost.violations == set() with input as {"object": {"spec": value}, "norm": value}
	}
}

test_whole_inputs if {
	every other in junk {
		denied(other)
	}
	denied({"object": {"spec": {"engine": "postgresql"}}})
	denied({"children": [null, "text", 7, {}, {"kind": "StatefulSet"}]})
}
