# Inputs that no schema would let through, as the command line may meet them: each is denied, none is an error. Fields
# that have tests of their own, such as the engine and the lists of `allow`, are left out.
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

without(path) := fixtures.changed([fixtures.drop(path)])

# A text, and a collection of the other kind, where a list or an object belongs.
not_objects(path) := [replaced(path, value) | some value in ["text", [7]]]

not_lists(path) := [replaced(path, value) | some value in ["text", {"a": []}]]

replaced(path, value) := fixtures.changed([{"op": "replace", "path": path, "value": value}])

all_by_security(others) if {
	every other in others {
		by_security(other)
	}
}

all_by_governance(others) if {
	every other in others {
		by_governance(other)
	}
}

test_object_gone if by_governance(without("/object"))

test_object_of_another_type if all_by_governance(not_objects("/object"))

test_spec_gone if by_governance(without("/object/spec"))

test_spec_of_another_type if all_by_governance(not_objects("/object/spec"))

test_resources_gone if by_security(without("/object/spec/resources"))

test_resources_of_another_type if all_by_security(not_objects("/object/spec/resources"))

test_limits_gone if by_security(without("/object/spec/resources/limits"))

test_limits_of_another_type if all_by_security(not_objects("/object/spec/resources/limits"))

test_requests_gone if by_security(without("/object/spec/resources/requests"))

test_requests_of_another_type if all_by_security(not_objects("/object/spec/resources/requests"))

test_pods_gone if by_security(without("/norm/pods"))

test_pods_of_another_type if all_by_security(not_lists("/norm/pods"))

test_pod_gone if by_security(without("/norm/pods/0"))

test_pod_of_another_type if all_by_security(not_objects("/norm/pods/0"))

test_pod_security_context_gone if by_security(fixtures.changed(fixtures.in_pod_security(fixtures.drop(""))))

test_pod_security_context_of_another_type if {
	every value in ["text", [7]] {
		by_security(fixtures.changed(fixtures.in_pod_security(fixtures.put("", value))))
	}
}

test_containers_gone if by_security(without("/norm/containers"))

test_containers_of_another_type if all_by_security(not_lists("/norm/containers"))

test_container_of_another_type if all_by_security(not_objects("/norm/containers/0"))

test_container_resources_gone if by_security(without(fixtures.in_container("resources")))

test_container_resources_of_another_type if all_by_security(not_objects(fixtures.in_container("resources")))

test_container_security_context_gone if by_security(without(fixtures.in_container("securityContext")))

test_container_security_context_of_another_type if all_by_security(not_objects(fixtures.in_container("securityContext")))

test_norm_gone if by_governance(without("/norm"))

test_norm_of_another_type if all_by_governance(not_objects("/norm"))

test_norm_requests_gone if by_governance(without("/norm/requests"))

test_norm_requests_of_another_type if all_by_governance(not_objects("/norm/requests"))

test_norm_limits_gone if by_governance(without("/norm/limits"))

test_norm_limits_of_another_type if all_by_governance(not_objects("/norm/limits"))

test_norm_backup_gone if by_governance(without("/norm/backup"))

test_norm_backup_of_another_type if all_by_governance(not_objects("/norm/backup"))

test_settings_gone if by_governance(without("/settings"))

test_settings_of_another_type if all_by_governance(not_objects("/settings"))

test_allow_gone if by_governance(without("/settings/allow"))

test_allow_of_another_type if all_by_governance(not_objects("/settings/allow"))

# A list of a wrong type never hides what the other rules see.
hides_nothing(path) if {
	every value in ["text", {"a": []}] {
		by_security(fixtures.changed([fixtures.put(fixtures.in_pod("hostPID"), true), fixtures.put(path, value)]))
	}
}

test_containers if hides_nothing("/norm/containers")

test_host_paths if hides_nothing(fixtures.in_pod("hostPaths"))

test_projected if hides_nothing(fixtures.in_pod("projected"))

test_ports if hides_nothing(fixtures.in_container("ports"))

test_capabilities if hides_nothing(fixtures.in_container("securityContext/capabilities/add"))

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

test_planned_of_all_types if {
	all := [null, "text", 7, {}, {"kind": "containers"}]
	by_security({"norm": {"pods": all, "containers": all}})
}

test_spec_alone if by_governance({"object": {"spec": {"engine": "postgresql"}}})
