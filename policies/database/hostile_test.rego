# Inputs that no schema would let through, as the command line may meet them: each is denied, none is an error.
package database.hostile_test

import rego.v1

import data.database.cost
import data.database.fixtures_test as fixtures

denies(violations) if {
	some violation in violations
	violation.action == "deny"
}

by_security(other) if {
	violations := data.database.security.violations with input as other
	denies(violations)
}

by_governance(other) if {
	violations := data.database.governance.violations with input as other
	denies(violations)
}

# The field gone, and of each type that it might have and has not.
without(path) := [
	fixtures.changed([fixtures.drop(path)]),
	replaced(path, "text"),
	replaced(path, {"a": []}),
]

replaced(path, value) := fixtures.changed([{"op": "replace", "path": path, "value": value}])

security_denies_without(path) if {
	every other in without(path) {
		by_security(other)
	}
	by_security(replaced(path, [7]))
}

governance_denies_without(path) if {
	every other in without(path) {
		by_governance(other)
	}
	by_governance(replaced(path, [7]))
}

test_object if governance_denies_without("/object")

test_spec if governance_denies_without("/object/spec")

test_engine if governance_denies_without("/object/spec/engine")

test_resources if security_denies_without("/object/spec/resources")

test_limits if security_denies_without("/object/spec/resources/limits")

test_requests if security_denies_without("/object/spec/resources/requests")

test_children if security_denies_without("/children")

test_child if security_denies_without("/children/1")

test_kind if security_denies_without("/children/1/kind")

test_template if security_denies_without("/children/1/spec/template")

test_pod if security_denies_without(fixtures.pod_path)

test_security_context_of_the_pod if security_denies_without(fixtures.in_pod("securityContext"))

test_containers if security_denies_without(fixtures.in_pod("containers"))

test_container if security_denies_without(fixtures.in_pod("containers/0"))

test_image_of_a_container if security_denies_without(fixtures.in_container("image"))

test_resources_of_a_container if security_denies_without(fixtures.in_container("resources"))

test_security_context_of_a_container if security_denies_without(fixtures.in_container("securityContext"))

test_norm if governance_denies_without("/norm")

test_requests_in_norm if governance_denies_without("/norm/requests")

test_limits_in_norm if governance_denies_without("/norm/limits")

test_version_in_norm if governance_denies_without("/norm/version")

test_backup_in_norm if governance_denies_without("/norm/backup")

test_images_in_norm if security_denies_without("/norm/images")

test_image_in_norm if security_denies_without("/norm/images/0")

test_settings if governance_denies_without("/settings")

test_allow if governance_denies_without("/settings/allow")

test_engines if governance_denies_without("/settings/allow/engines")

test_registries if security_denies_without("/settings/allow/registries")

# A list of a wrong type never hides what the other rules see.
hides_nothing(field) if {
	every value in ["text", {"a": []}, null] {
		by_security(fixtures.changed([fixtures.put(fixtures.in_pod("hostPID"), true), fixtures.put(fixtures.in_pod(field), value)]))
	}
}

test_init_containers if hides_nothing("initContainers")

test_volumes if hides_nothing("volumes")

test_ports if hides_nothing("containers/0/ports")

test_capabilities if hides_nothing("containers/0/securityContext/capabilities/add")

# What one package denies must be no error in the others.
test_security_with_nothing_to_read if {
	every other in [{"object": "text", "norm": [7]}, {"object": {"spec": [7]}, "norm": "text", "settings": "text"}] {
		by_security(other)
	}
}

test_governance_with_nothing_to_read if {
	every other in [null, "text", [7], {"a": []}] {
		by_governance(other)
	}
}

test_security_of_no_object if {
	every other in [null, "text", [7]] {
		by_security(other)
	}
}

# Warnings are asked for too, though they refuse nothing: they must not be errors either.
test_cost_has_nothing_to_say if {
	every value in [null, "text", [7], {"a": []}] {
		cost.violations == set() with input as value
		cost.violations == set() with input as {"object": {"spec": value}, "norm": value}
	}
}

test_children_of_all_types if by_security({"children": [null, "text", 7, {}, {"kind": "StatefulSet"}]})

test_spec_alone if by_governance({"object": {"spec": {"engine": "postgresql"}}})
