package database.security_spec_test

import rego.v1

import data.database.fixtures_test as fixtures

# Violations as ID at PATH.
found(changes) := places if {
	places := {concat(" at ", [violation.id, violation.path]) |
		some violation in data.database.security.violations
	} with input as fixtures.changed(changes)
}

fields := {
	"limits/cpu": "security.limits-missing at spec.resources.limits.cpu",
	"limits/memory": "security.limits-missing at spec.resources.limits.memory",
	"requests/cpu": "security.requests-missing at spec.resources.requests.cpu",
	"requests/memory": "security.requests-missing at spec.resources.requests.memory",
}

test_missing_in_the_database if {
	found([fixtures.drop("/object/spec/resources/limits/cpu"), fixtures.drop("/object/spec/resources/requests/memory")]) == {
		fields["limits/cpu"],
		fields["requests/memory"],
	}
	found([fixtures.drop("/object/spec/resources/limits/memory"), fixtures.drop("/object/spec/resources/requests/cpu")]) == {
		fields["limits/memory"],
		fields["requests/cpu"],
	}
}

test_missing_in_a_container if {
	found([
		fixtures.drop(fixtures.in_container("resources/limits/cpu")),
		fixtures.drop(fixtures.in_init("resources/requests/memory")),
	]) == {fields["limits/cpu"], fields["requests/memory"]}
	found([
		fixtures.drop(fixtures.in_container("resources/requests/cpu")),
		fixtures.drop(fixtures.in_init("resources/limits/memory")),
	]) == {fields["requests/cpu"], fields["limits/memory"]}
}

# Once for each field, however many containers lack it.
test_all_missing if {
	all := {expected | some expected in fields}
	found([fixtures.drop("/object/spec/resources")]) == all
	found([
		fixtures.drop(fixtures.in_container("resources")),
		fixtures.put(fixtures.in_init("resources"), "text"),
	]) == all
}

test_missing_is_allowed_only_in_so_many_words if {
	off := fixtures.put("/settings/require/limits/value", false)
	found([fixtures.drop("/object/spec/resources"), off]) == set()
}

test_missing_is_not_allowed_by_default if {
	missing := fixtures.drop("/object/spec/resources/limits/cpu")
	found([missing, fixtures.drop("/settings/require/limits")]) == {fields["limits/cpu"]}
	found([missing, fixtures.drop("/settings/require")]) == {fields["limits/cpu"]}
}

test_missing_is_not_allowed_by_something_else_than_false if {
	missing := fixtures.drop("/object/spec/resources/limits/cpu")
	found([missing, fixtures.put("/settings/require/limits/value", "false")]) == {fields["limits/cpu"]}
	found([missing, fixtures.put("/settings/require/limits", {})]) == {fields["limits/cpu"]}
}

with_location(location) := found([fixtures.put("/object/spec/backupPolicy/storageLocation", location)])

reported := {"security.inline-credentials at spec.backupPolicy.storageLocation"}

test_user_in_a_location if {
	with_location("s3://user:hunter2@backups/shop") == reported
	with_location("s3://user@backups/shop") == reported
}

test_user_in_a_location_of_another_form if {
	with_location("https://user:with/slash@backups/shop") == reported
	with_location("user:hunter2@backups") == reported
}

test_key_in_the_query_of_a_location if {
	with_location("https://backups/shop?a=1?Password=hunter2") == reported
	with_location("https://backups/shop?X-Amz-Signature=hunter2") == reported
}

test_key_of_another_name_in_a_location if with_location("https://backups/shop?access_key=hunter2") == reported

test_location_without_credentials if {
	with_location("s3://company-backups/databases/shop/") == set()
	with_location("https://backups:8443/password/shop?region=eu") == set()
}

test_location_that_is_no_text if {
	with_location("") == set()
	with_location(7) == set()
}

test_credentials_are_never_quoted if {
	messages := {violation.message |
		some violation in data.database.security.violations
	} with input as fixtures.changed([fixtures.put("/object/spec/backupPolicy/storageLocation", "s3://user:hunter2@backups")])
	count(messages) == 1
	every message in messages {
		not contains(message, "hunter2")
		not contains(message, "user")
	}
}
