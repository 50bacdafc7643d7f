"""What a person looks at: figures, the picture that blinks, the page that walks back."""
