# What is promised, against plans with a made-up AWS: terraform test
mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }

  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }

  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }

  mock_resource "aws_eks_cluster" {
    defaults = {
      arn      = "arn:aws:eks:eu-central-1:123456789012:cluster/fleetloop"
      identity = [{ oidc = [{ issuer = "https://oidc.eks.eu-central-1.amazonaws.com/id/ABC" }] }]
    }
  }

  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/fleetloop-server" }
  }

  mock_resource "aws_kms_key" {
    defaults = { arn = "arn:aws:kms:eu-central-1:123456789012:key/1" }
  }

  mock_resource "aws_db_instance" {
    defaults = { master_user_secret = [{ secret_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:x" }] }
  }
}

variables {
  region = "eu-central-1"
  zones  = ["eu-central-1a", "eu-central-1b", "eu-central-1c"]
}

run "the_database_is_closed_and_kept" {
  command = plan

  assert {
    condition = (
      aws_db_instance.this.storage_encrypted && aws_db_instance.this.deletion_protection &&
      aws_db_instance.this.multi_az && !aws_db_instance.this.publicly_accessible &&
      !aws_db_instance.this.skip_final_snapshot && aws_db_instance.this.backup_retention_period >= 7 &&
      aws_db_instance.this.manage_master_user_password
    )
    error_message = "the database lacks something of what it must have"
  }

  assert {
    condition     = contains([for each in aws_db_parameter_group.this.parameter : "${each.name}=${each.value}"], "rds.force_ssl=1")
    error_message = "the database takes connections without TLS"
  }
}

run "the_bucket_is_closed_and_kept" {
  command = plan

  assert {
    condition = alltrue([
      aws_s3_bucket_public_access_block.objects.block_public_acls,
      aws_s3_bucket_public_access_block.objects.block_public_policy,
      aws_s3_bucket_public_access_block.objects.ignore_public_acls,
      aws_s3_bucket_public_access_block.objects.restrict_public_buckets,
      aws_s3_bucket_versioning.objects.versioning_configuration[0].status == "Enabled",
      !aws_s3_bucket.objects.force_destroy,
    ])
    error_message = "the bucket lacks something of what it must have"
  }

  assert {
    condition     = length([for each in data.aws_iam_policy_document.objects.statement : each if each.effect == "Deny"]) == 2
    error_message = "the bucket is reached without TLS"
  }

  assert {
    condition     = aws_s3_bucket_lifecycle_configuration.objects.rule[0].abort_incomplete_multipart_upload[0].days_after_initiation == 7
    error_message = "unfinished uploads stay for ever"
  }

  assert {
    condition = (
      aws_s3_bucket_lifecycle_configuration.objects.rule[1].filter[0].prefix == "incoming/" &&
      aws_s3_bucket_lifecycle_configuration.objects.rule[1].expiration[0].days == 8
    )
    error_message = "what was uploaded and never claimed stays for ever"
  }
}

run "the_cluster_is_reached_from_inside_alone" {
  command = plan

  assert {
    condition = (
      aws_eks_cluster.this.vpc_config[0].endpoint_private_access && !aws_eks_cluster.this.vpc_config[0].endpoint_public_access &&
      contains(aws_eks_cluster.this.encryption_config[0].resources, "secrets")
    )
    error_message = "the cluster is open, or its Secrets are not encrypted"
  }

  assert {
    condition     = aws_launch_template.nodes.metadata_options[0].http_tokens == "required"
    error_message = "pods come by the nodes' rights"
  }

  assert {
    condition     = length(distinct(concat([for each in aws_subnet.public : each.cidr_block], [for each in aws_subnet.nodes : each.cidr_block], [for each in aws_subnet.database : each.cidr_block]))) == 9
    error_message = "networks overlap"
  }
}

run "the_role_is_the_servers_alone" {
  command = apply

  assert {
    condition = toset(local.accounts) == toset([
      "system:serviceaccount:fleetloop:fleetloop-people",
      "system:serviceaccount:fleetloop:fleetloop-devices",
      "system:serviceaccount:fleetloop:fleetloop-worker",
    ])
    error_message = "others get at the bucket"
  }

  assert {
    condition     = alltrue(flatten([for each in data.aws_iam_policy_document.server.statement : [for action in each.actions : !strcontains(action, "*")]]))
    error_message = "the role may more than it must"
  }

  assert {
    condition     = yamldecode(output.helm_values).serviceAccount.annotations["eks.amazonaws.com/role-arn"] == aws_iam_role.server.arn
    error_message = "the chart would not get the role"
  }

  assert {
    condition     = nonsensitive(output.helm_values) != "" && length(yamldecode(output.helm_values).networkPolicy.database.peers) == 3
    error_message = "the chart would not let servers reach the database"
  }
}

# infra/helm/fleetloop/ci/aws.yaml has this shape, and the chart is rendered with it.
run "values_have_the_shape_that_the_chart_is_tested_with" {
  command = apply

  assert {
    condition = alltrue([
      toset(keys(yamldecode(output.helm_values))) == toset(keys(yamldecode(file("${path.root}/../../helm/fleetloop/ci/aws.yaml")))),
    ])
    error_message = "the chart is tested with other values"
  }
}

run "one_zone_is_refused" {
  command = plan
  variables { zones = ["eu-central-1a"] }
  expect_failures = [var.zones]
}

run "a_zone_elsewhere_is_refused" {
  command = plan
  variables { zones = ["eu-central-1a", "eu-west-1a"] }
  expect_failures = [var.zones]
}

run "an_open_api_is_refused" {
  command = plan
  variables { cluster_public_from = ["0.0.0.0/0"] }
  expect_failures = [var.cluster_public_from]
}

run "objects_outlive_backups" {
  command = plan
  variables { object_versions_days = 7 }
  expect_failures = [var.object_versions_days]
}

run "an_untested_postgresql_is_refused" {
  command = plan
  variables { database_version = "12" }
  expect_failures = [var.database_version]
}
