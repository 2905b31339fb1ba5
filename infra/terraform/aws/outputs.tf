output "cluster_name" {
  description = "For aws eks update-kubeconfig."
  value       = aws_eks_cluster.this.name
}

output "database_address" {
  description = "Host of PostgreSQL; the database is called fleetloop."
  value       = aws_db_instance.this.address
}

output "database_secret_arn" {
  description = "Secret of Secrets Manager with the user's name and password, which AWS changes."
  value       = aws_db_instance.this.master_user_secret[0].secret_arn
}

output "bucket" {
  description = "Bucket of the object store."
  value       = aws_s3_bucket.objects.bucket
}

output "helm_values" {
  description = "Values of the chart that follow from all this: terraform output -raw helm_values > aws.yaml"
  value = yamlencode({
    settings       = { object_store = "s3://${aws_s3_bucket.objects.bucket}" }
    objectStore    = { region = var.region }
    serviceAccount = { annotations = { "eks.amazonaws.com/role-arn" = aws_iam_role.server.arn } }
    devices = {
      service = {
        annotations = {
          "service.beta.kubernetes.io/aws-load-balancer-type"            = "external"
          "service.beta.kubernetes.io/aws-load-balancer-nlb-target-type" = "ip"
          "service.beta.kubernetes.io/aws-load-balancer-scheme"          = "internet-facing"
        }
      }
    }
    networkPolicy = {
      database = {
        port  = 5432
        peers = [for each in aws_subnet.database : { ipBlock = { cidr = each.cidr_block } }]
      }
    }
  })
}
