ALTER TABLE `keys` ADD `limits` text DEFAULT '{}' NOT NULL;--> statement-breakpoint
ALTER TABLE `projects` ADD `limits` text DEFAULT '{}' NOT NULL;