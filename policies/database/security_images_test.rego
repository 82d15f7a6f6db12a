package database.security_images_test

import rego.v1

import data.database.fixtures_test as fixtures

found(changes) := ids if {
	ids := {violation.id | some violation in data.database.security.violations} with input as fixtures.changed(changes)
}

with_image(field, value) := found([fixtures.put(concat("/", ["/norm/containers/0", field]), value)])

test_invalid if {
	with_image("valid", false) == {"security.image-invalid"}
	with_image("valid", true) == set()
}

test_not_read if {
	found([fixtures.drop("/norm/containers/0/registry")]) == {"security.image-invalid"}
	found([fixtures.drop("/norm/containers/0/repository")]) == {"security.image-invalid"}
}

test_read_as_something_else_than_a_text if {
	with_image("repository", 7) == {"security.image-invalid"}
	with_image("repository", ["docker.io/library/postgres"]) == {"security.image-invalid"}
}

test_no_image_in_the_pod if {
	found([fixtures.drop(fixtures.in_container("image"))]) == {"security.image-invalid"}
	found([fixtures.drop(fixtures.in_container("name"))]) == {"security.image-invalid"}
}

# A description without the image's text is still looked at.
test_registry_of_an_image_without_a_text if {
	found([fixtures.drop("/norm/containers/0/image"), fixtures.put("/norm/containers/0/repository", "evil.com/a"), fixtures.drop("/norm/containers/0/tag")]) == {
		"security.image-invalid",
		"security.image-registry",
		"security.image-tag",
	}
}

refused := {"security.image-registry"}

test_registry_of_someone_else if {
	with_image("repository", "docker.io/someone/postgres") == refused
	with_image("repository", "evil.com/docker.io/library/postgres") == refused
}

test_registry_of_nothing if with_image("repository", "") == refused

test_registry_that_only_begins_alike if {
	with_image("repository", "docker.io/library-evil/postgres") == refused
	with_image("repository", "docker.io") == refused
}

test_host_that_only_begins_alike if {
	with_image("repository", "quay.io.evil.com/postgres") == refused
	with_image("repository", "quay.io:5000/postgres") == refused
}

test_registry if {
	with_image("repository", "quay.io/team/postgres") == set()
	with_image("repository", "quay.io") == set()
}

# A list that is missing, or is none, allows nothing.
test_no_registry_list if {
	found([fixtures.drop("/settings/allow/registries")]) == refused
	found([fixtures.put("/settings/allow/registries/value", [])]) == refused
}

test_registry_list_that_is_a_text if found([fixtures.put("/settings/allow/registries/value", "docker.io")]) == refused

test_registry_list_of_other_things if {
	found([fixtures.put("/settings/allow/registries/value", [""])]) == refused
	found([fixtures.put("/settings/allow/registries/value", [7, "docker.io"])]) == set()
}

test_tag if {
	with_image("tag", "latest") == {"security.image-tag"}
	with_image("tag", "16") == set()
}

test_no_tag if {
	with_image("tag", "") == {"security.image-tag"}
	found([fixtures.drop("/norm/containers/1/tag")]) == {"security.image-tag"}
}

test_tag_that_is_a_number if with_image("tag", 16) == {"security.image-tag"}

# A digest is always the same image, whatever its tag.
test_digest_in_place_of_a_tag if {
	found([fixtures.drop("/norm/containers/0/tag"), fixtures.put("/norm/containers/0/digest", "sha256:00")]) == set()
	found([fixtures.put("/norm/containers/0/tag", "latest"), fixtures.put("/norm/containers/0/digest", "sha256:00")]) == set()
}

test_no_digest_in_place_of_a_tag if {
	found([fixtures.drop("/norm/containers/0/tag"), fixtures.put("/norm/containers/0/digest", "")]) == {"security.image-tag"}
	found([fixtures.drop("/norm/containers/0/tag"), fixtures.put("/norm/containers/0/digest", ["sha256:00"])]) == {"security.image-tag"}
}

digest_required := fixtures.put("/settings/require/image_digest", {"value": true, "level": "team/payments"})

digests := [
	fixtures.put("/norm/containers/0/digest", "sha256:00"),
	fixtures.put("/norm/containers/1/digest", "sha256:00"),
]

test_no_digest if {
	found([digest_required]) == {"security.image-digest"}
	found([digest_required, digests[0]]) == {"security.image-digest"}
}

test_digest if {
	found(array.concat([digest_required], digests)) == set()
	found([fixtures.put("/settings/require/image_digest", {"value": false})]) == set()
}

test_messages if {
	messages := {violation.message | some violation in data.database.security.violations} with input as fixtures.changed([
		fixtures.put("/norm/containers/0/repository", "evil.com/a"),
		fixtures.put("/settings/require/image_digest", {"value": true, "level": "team/payments"}),
		fixtures.drop(fixtures.in_init("image")),
	])
	some first in messages
	contains(first, "allowed: docker.io/library, quay.io (setting allow.registries, level global)")
	some second in messages
	contains(second, "which level team/payments requires (setting require.image_digest)")
	some third in messages
	contains(third, "cannot be read (none)")
}

# The one container whose image cannot be read, not its neighbour too.
test_only_what_cannot_be_read_is_reported if {
	messages := [violation.message | some violation in data.database.security.violations] with input as fixtures.changed([fixtures.put(fixtures.in_init("valid"), false)])
	count(messages) == 1
	contains(messages[0], "\"initialise\" (initContainers)")
}

test_message_without_a_list if {
	messages := {violation.message | some violation in data.database.security.violations} with input as fixtures.changed([fixtures.drop("/settings/allow/registries")])
	some message in messages
	contains(message, "allowed: none (setting allow.registries, set by no level)")
}
