# Where the planned images come from, and whether they are the same tomorrow.
#
# The operator picks the image from its catalogue by engine and version, so `spec.version` is the user's field.
package database.security

import rego.v1

import data.database.lib

# Images that `norm` describes, as far as they could be read.
images := [image |
	listed := input.norm.images
	some image in lib.listed(listed)
	is_string(image.repository)
]

# Each as it is to be compared with what the planned pod has.
described := {entry |
	some image in images
	is_string(image.registry)
	not image.valid == false
	entry := [image.kind, image.container, image.image]
}

# Also a container that `norm` does not describe: its image was never looked at.
violations contains v if {
	not all_described
	some container in containers
	not is_described(container)
	v := {
		"id": "security.image-invalid",
		"severity": "high",
		"action": "deny",
		"path": "spec.version",
		"message": sprintf("%s has an image whose reference cannot be read (%s); %s", [title(container), image_text(container.spec), image_remedy]),
	}
}

# What is so nearly always, found out at once.
all_described if {
	planned := {entry | some container in containers; entry := [container.kind, container.spec.name, container.spec.image]}
	count(planned) == count(containers)
	planned - described == set()
}

# A container that lacks a name or an image has no such entry, so nothing describes it.
is_described(container) if {
	entry := [container.kind, container.spec.name, container.spec.image]
	known := described
	entry in known
}

# With the slash at the end, so that whole parts of the path are compared: `quay.io` is no prefix of `quay.io.evil`.
allowed_prefixes := [concat("", [registry, "/"]) |
	registries := input.settings.allow.registries.value
	is_array(registries)
	some registry in registries
	is_string(registry)
]

violations contains v if {
	some image in images
	path := concat("", [image.repository, "/"])
	prefixes := allowed_prefixes
	not strings.any_prefix_match(path, prefixes)
	v := {
		"id": "security.image-registry",
		"severity": "high",
		"action": "deny",
		"path": "spec.version",
		"message": sprintf("the image %s comes from a registry that is not allowed; allowed: %s (setting allow.registries, %s); %s", [image_text(image), lib.listing(data.database.lib.allowed_registries), registries_level, image_remedy]),
	}
}

violations contains v if {
	some image in images
	not is_pinned(image)
	v := {
		"id": "security.image-tag",
		"severity": "medium",
		"action": "deny",
		"path": "spec.version",
		"message": sprintf("the image %s has the tag latest or none, and no digest, so it may be another one tomorrow; %s", [image_text(image), image_remedy]),
	}
}

is_pinned(image) if {
	tag := image.tag
	not tag in {"", "latest"}
	is_string(tag)
} else if {
	has_digest(image)
}

has_digest(image) if {
	is_string(image.digest)
	image.digest != ""
}

violations contains v if {
	requirement := input.settings.require.image_digest
	not requirement.value == false
	some image in images
	not has_digest(image)
	v := {
		"id": "security.image-digest",
		"severity": "medium",
		"action": "deny",
		"path": "spec.version",
		"message": sprintf("the image %s has no digest, which %s requires (setting require.image_digest); %s", [image_text(image), lib.required_by("image_digest"), image_remedy]),
	}
}

image_remedy := "declare a version whose image is allowed, or have the operator's catalogue changed"

image_text(spec) := lib.quote(spec.image) if {
	is_string(spec.image)
} else := "none"

registries_level := lib.level(entry) if {
	entry := input.settings.allow.registries
} else := "set by no level"
