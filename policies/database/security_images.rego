# Where the planned images come from, and whether they are the same tomorrow.
#
# The operator picks the image from its catalogue by engine and version, so `spec.version` is the user's field.
package database.security

import rego.v1

import data.database.lib

images := lib.listed(lib.norm.images)

# Each as `norm` describes it, to be compared with what the planned pod has.
described := {[image.kind, image.container, image.image] |
	some image in images
	is_string(image.registry)
	is_string(image.repository)
	not image.valid == false
}

# Also a container that `norm` does not describe: its image was never looked at.
violations contains {
	"id": "security.image-invalid",
	"severity": "high",
	"action": "deny",
	"path": "spec.version",
	"message": sprintf("%s has an image whose reference cannot be read (%s); %s", [title(container), image_text(container.spec), image_remedy]),
} if {
	not all_described
	some container in containers
	not is_described(container)
}

# What is so nearly always, found out at once.
all_described if {
	planned := {[container.kind, container.spec.name, container.spec.image] | some container in containers}
	count(planned) == count(containers)
	count(planned - described) == 0
}

is_described(container) if [container.kind, container.spec.name, container.spec.image] in described

# With the slash at the end, so that whole parts of the path are compared: `quay.io` is no prefix of `quay.io.evil`.
allowed_prefixes := [concat("", [registry, "/"]) |
	some registry in lib.allowed_registries
	is_string(registry)
]

violations contains {
	"id": "security.image-registry",
	"severity": "high",
	"action": "deny",
	"path": "spec.version",
	"message": sprintf("the image %s comes from a registry that is not allowed; allowed: %s (setting allow.registries, %s); %s", [lib.quote(image.image), lib.listing(lib.allowed_registries), registries_level, image_remedy]),
} if {
	some image in images
	is_string(image.repository)
	not strings.any_prefix_match(concat("", [image.repository, "/"]), allowed_prefixes)
}

violations contains {
	"id": "security.image-tag",
	"severity": "medium",
	"action": "deny",
	"path": "spec.version",
	"message": sprintf("the image %s has the tag latest or none, and no digest, so it may be another one tomorrow; %s", [lib.quote(image.image), image_remedy]),
} if {
	some image in images
	is_string(image.repository)
	not is_pinned(image)
}

is_pinned(image) if {
	has_digest(image)
} else if {
	is_string(image.tag)
	not image.tag in {"", "latest"}
}

has_digest(image) if {
	is_string(image.digest)
	image.digest != ""
}

violations contains {
	"id": "security.image-digest",
	"severity": "medium",
	"action": "deny",
	"path": "spec.version",
	"message": sprintf("the image %s has no digest, which %s requires (setting require.image_digest); %s", [lib.quote(image.image), lib.required_by("image_digest"), image_remedy]),
} if {
	"image_digest" in lib.required
	some image in images
	is_string(image.repository)
	not has_digest(image)
}

image_remedy := "declare a version whose image is allowed, or have the operator's catalogue changed"

image_text(spec) := lib.quote(spec.image) if {
	is_string(spec.image)
} else := "none"

registries_level := lib.level(entry) if {
	entry := input.settings.allow.registries
} else := "set by no level"
