"""Tell what is known of this processor, what was chosen on it, and how far from its roofline that is."""
